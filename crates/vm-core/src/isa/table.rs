//! THE instruction table: every truth about an instruction that is not its
//! behaviour stands in one row here, and nowhere else.
//!
//! From a row derive [`Op`](super::Op), [`Inst`](super::Inst), the
//! [`Visitor`](super::Visitor) that every engine must implement (a new row
//! makes the compiler list the engines that lack it), decoder, encoder,
//! assembler, disassembler and `docs/isa-table.md`.
//!
//! Columns: method of the visitor · variant · mnemonic · operand format (a
//! type of [`format`](super::format)) · match · mask · extension · semantics.
//! A word `w` is the instruction of a row when `w & mask == match` and the
//! format accepts the rest. `len` is the instruction's length: 2 or 4.
//! Encodings: The RISC-V Instruction Set Manual, Volume I, "RV32/64G
//! Instruction Set Listings" and the chapters of the Zb* and Zicond
//! extensions.

/// Calls `$callback!` with all rows.
macro_rules! for_each_inst {
    ($callback:ident) => {
        $callback! {
            // RV64I
            lui         Lui         "lui"         U        0x00000037 0x0000007f I         "rd = imm";
            auipc       Auipc       "auipc"       U        0x00000017 0x0000007f I         "rd = pc + imm";
            jal         Jal         "jal"         J        0x0000006f 0x0000007f I         "rd = pc + len; pc += imm";
            jalr        Jalr        "jalr"        Jalr     0x00000067 0x0000707f I         "rd = pc + len; pc = (rs1 + imm) & !1";
            beq         Beq         "beq"         B        0x00000063 0x0000707f I         "if rs1 == rs2: pc += imm";
            bne         Bne         "bne"         B        0x00001063 0x0000707f I         "if rs1 != rs2: pc += imm";
            blt         Blt         "blt"         B        0x00004063 0x0000707f I         "if rs1 <s rs2: pc += imm";
            bge         Bge         "bge"         B        0x00005063 0x0000707f I         "if rs1 >=s rs2: pc += imm";
            bltu        Bltu        "bltu"        B        0x00006063 0x0000707f I         "if rs1 <u rs2: pc += imm";
            bgeu        Bgeu        "bgeu"        B        0x00007063 0x0000707f I         "if rs1 >=u rs2: pc += imm";
            lb          Lb          "lb"          Load     0x00000003 0x0000707f I         "rd = sext8(mem[rs1 + imm])";
            lh          Lh          "lh"          Load     0x00001003 0x0000707f I         "rd = sext16(mem[rs1 + imm])";
            lw          Lw          "lw"          Load     0x00002003 0x0000707f I         "rd = sext32(mem[rs1 + imm])";
            ld          Ld          "ld"          Load     0x00003003 0x0000707f I         "rd = (mem[rs1 + imm])";
            lbu         Lbu         "lbu"         Load     0x00004003 0x0000707f I         "rd = zext8(mem[rs1 + imm])";
            lhu         Lhu         "lhu"         Load     0x00005003 0x0000707f I         "rd = zext16(mem[rs1 + imm])";
            lwu         Lwu         "lwu"         Load     0x00006003 0x0000707f I         "rd = zext32(mem[rs1 + imm])";
            sb          Sb          "sb"          S        0x00000023 0x0000707f I         "mem8[rs1 + imm] = rs2";
            sh          Sh          "sh"          S        0x00001023 0x0000707f I         "mem16[rs1 + imm] = rs2";
            sw          Sw          "sw"          S        0x00002023 0x0000707f I         "mem32[rs1 + imm] = rs2";
            sd          Sd          "sd"          S        0x00003023 0x0000707f I         "mem64[rs1 + imm] = rs2";
            addi        Addi        "addi"        I        0x00000013 0x0000707f I         "rd = rs1 + imm";
            slti        Slti        "slti"        I        0x00002013 0x0000707f I         "rd = rs1 <s imm";
            sltiu       Sltiu       "sltiu"       I        0x00003013 0x0000707f I         "rd = rs1 <u imm";
            xori        Xori        "xori"        I        0x00004013 0x0000707f I         "rd = rs1 ^ imm";
            ori         Ori         "ori"         I        0x00006013 0x0000707f I         "rd = rs1 | imm";
            andi        Andi        "andi"        I        0x00007013 0x0000707f I         "rd = rs1 & imm";
            slli        Slli        "slli"        Sh64     0x00001013 0xfc00707f I         "rd = rs1 << shamt";
            srli        Srli        "srli"        Sh64     0x00005013 0xfc00707f I         "rd = rs1 >>u shamt";
            srai        Srai        "srai"        Sh64     0x40005013 0xfc00707f I         "rd = rs1 >>s shamt";
            add         Add         "add"         R        0x00000033 0xfe00707f I         "rd = rs1 + rs2";
            sub         Sub         "sub"         R        0x40000033 0xfe00707f I         "rd = rs1 - rs2";
            sll         Sll         "sll"         R        0x00001033 0xfe00707f I         "rd = rs1 << (rs2 & 63)";
            slt         Slt         "slt"         R        0x00002033 0xfe00707f I         "rd = rs1 <s rs2";
            sltu        Sltu        "sltu"        R        0x00003033 0xfe00707f I         "rd = rs1 <u rs2";
            xor         Xor         "xor"         R        0x00004033 0xfe00707f I         "rd = rs1 ^ rs2";
            srl         Srl         "srl"         R        0x00005033 0xfe00707f I         "rd = rs1 >>u (rs2 & 63)";
            sra         Sra         "sra"         R        0x40005033 0xfe00707f I         "rd = rs1 >>s (rs2 & 63)";
            or          Or          "or"          R        0x00006033 0xfe00707f I         "rd = rs1 | rs2";
            and         And         "and"         R        0x00007033 0xfe00707f I         "rd = rs1 & rs2";
            addiw       Addiw       "addiw"       I        0x0000001b 0x0000707f I         "rd = sext32(rs1 + imm)";
            slliw       Slliw       "slliw"       Sh32     0x0000101b 0xfe00707f I         "rd = sext32(rs1 << shamt)";
            srliw       Srliw       "srliw"       Sh32     0x0000501b 0xfe00707f I         "rd = sext32(zext32(rs1) >>u shamt)";
            sraiw       Sraiw       "sraiw"       Sh32     0x4000501b 0xfe00707f I         "rd = sext32(rs1) >>s shamt";
            addw        Addw        "addw"        R        0x0000003b 0xfe00707f I         "rd = sext32(rs1 + rs2)";
            subw        Subw        "subw"        R        0x4000003b 0xfe00707f I         "rd = sext32(rs1 - rs2)";
            sllw        Sllw        "sllw"        R        0x0000103b 0xfe00707f I         "rd = sext32(rs1 << (rs2 & 31))";
            srlw        Srlw        "srlw"        R        0x0000503b 0xfe00707f I         "rd = sext32(zext32(rs1) >>u (rs2 & 31))";
            sraw        Sraw        "sraw"        R        0x4000503b 0xfe00707f I         "rd = sext32(sext32(rs1) >>s (rs2 & 31))";
            fence       Fence       "fence"       Fence    0x0000000f 0x0000707f I         "order memory accesses";
            ecall       Ecall       "ecall"       Nullary  0x00000073 0xffffffff I         "exit: ecall";
            ebreak      Ebreak      "ebreak"      Nullary  0x00100073 0xffffffff I         "exit: breakpoint";
            // Zifencei
            fence_i     FenceI      "fence.i"     Fence    0x0000100f 0x0000707f Zifencei  "make stores visible to fetches of this hart";
            // Zicsr
            csrrw       Csrrw       "csrrw"       Csr      0x00001073 0x0000707f Zicsr     "rd = csr; csr = rs1";
            csrrs       Csrrs       "csrrs"       Csr      0x00002073 0x0000707f Zicsr     "rd = csr; csr |= rs1";
            csrrc       Csrrc       "csrrc"       Csr      0x00003073 0x0000707f Zicsr     "rd = csr; csr &= !rs1";
            csrrwi      Csrrwi      "csrrwi"      Csri     0x00005073 0x0000707f Zicsr     "rd = csr; csr = uimm";
            csrrsi      Csrrsi      "csrrsi"      Csri     0x00006073 0x0000707f Zicsr     "rd = csr; csr |= uimm";
            csrrci      Csrrci      "csrrci"      Csri     0x00007073 0x0000707f Zicsr     "rd = csr; csr &= !uimm";
            // M
            mul         Mul         "mul"         R        0x02000033 0xfe00707f M         "rd = low64(rs1 * rs2)";
            mulh        Mulh        "mulh"        R        0x02001033 0xfe00707f M         "rd = high64(rs1 *ss rs2)";
            mulhsu      Mulhsu      "mulhsu"      R        0x02002033 0xfe00707f M         "rd = high64(rs1 *su rs2)";
            mulhu       Mulhu       "mulhu"       R        0x02003033 0xfe00707f M         "rd = high64(rs1 *uu rs2)";
            div         Div         "div"         R        0x02004033 0xfe00707f M         "rd = rs1 /s rs2; by 0: -1";
            divu        Divu        "divu"        R        0x02005033 0xfe00707f M         "rd = rs1 /u rs2; by 0: all ones";
            rem         Rem         "rem"         R        0x02006033 0xfe00707f M         "rd = rs1 %s rs2; by 0: rs1";
            remu        Remu        "remu"        R        0x02007033 0xfe00707f M         "rd = rs1 %u rs2; by 0: rs1";
            mulw        Mulw        "mulw"        R        0x0200003b 0xfe00707f M         "rd = sext32(rs1 * rs2)";
            divw        Divw        "divw"        R        0x0200403b 0xfe00707f M         "rd = sext32(sext32(rs1) /s sext32(rs2); by 0: -1)";
            divuw       Divuw       "divuw"       R        0x0200503b 0xfe00707f M         "rd = sext32(zext32(rs1) /u zext32(rs2); by 0: all ones)";
            remw        Remw        "remw"        R        0x0200603b 0xfe00707f M         "rd = sext32(sext32(rs1) %s sext32(rs2); by 0: rs1)";
            remuw       Remuw       "remuw"       R        0x0200703b 0xfe00707f M         "rd = sext32(zext32(rs1) %u zext32(rs2); by 0: rs1)";
            // A
            lr_w        LrW         "lr.w"        Lr       0x1000202f 0xf9f0707f A         "rd = mem32[rs1]; reserve";
            sc_w        ScW         "sc.w"        Amo      0x1800202f 0xf800707f A         "if reserved: mem32 = rs2, rd = 0; else rd = 1";
            amoswap_w   AmoswapW    "amoswap.w"   Amo      0x0800202f 0xf800707f A         "rd = mem32; mem32 = rs2";
            amoadd_w    AmoaddW     "amoadd.w"    Amo      0x0000202f 0xf800707f A         "rd = mem32; mem32 += rs2";
            amoxor_w    AmoxorW     "amoxor.w"    Amo      0x2000202f 0xf800707f A         "rd = mem32; mem32 ^= rs2";
            amoand_w    AmoandW     "amoand.w"    Amo      0x6000202f 0xf800707f A         "rd = mem32; mem32 &= rs2";
            amoor_w     AmoorW      "amoor.w"     Amo      0x4000202f 0xf800707f A         "rd = mem32; mem32 |= rs2";
            amomin_w    AmominW     "amomin.w"    Amo      0x8000202f 0xf800707f A         "rd = mem32; mem32 = min_s(mem32, rs2)";
            amomax_w    AmomaxW     "amomax.w"    Amo      0xa000202f 0xf800707f A         "rd = mem32; mem32 = max_s(mem32, rs2)";
            amominu_w   AmominuW    "amominu.w"   Amo      0xc000202f 0xf800707f A         "rd = mem32; mem32 = min_u(mem32, rs2)";
            amomaxu_w   AmomaxuW    "amomaxu.w"   Amo      0xe000202f 0xf800707f A         "rd = mem32; mem32 = max_u(mem32, rs2)";
            lr_d        LrD         "lr.d"        Lr       0x1000302f 0xf9f0707f A         "rd = mem64[rs1]; reserve";
            sc_d        ScD         "sc.d"        Amo      0x1800302f 0xf800707f A         "if reserved: mem64 = rs2, rd = 0; else rd = 1";
            amoswap_d   AmoswapD    "amoswap.d"   Amo      0x0800302f 0xf800707f A         "rd = mem64; mem64 = rs2";
            amoadd_d    AmoaddD     "amoadd.d"    Amo      0x0000302f 0xf800707f A         "rd = mem64; mem64 += rs2";
            amoxor_d    AmoxorD     "amoxor.d"    Amo      0x2000302f 0xf800707f A         "rd = mem64; mem64 ^= rs2";
            amoand_d    AmoandD     "amoand.d"    Amo      0x6000302f 0xf800707f A         "rd = mem64; mem64 &= rs2";
            amoor_d     AmoorD      "amoor.d"     Amo      0x4000302f 0xf800707f A         "rd = mem64; mem64 |= rs2";
            amomin_d    AmominD     "amomin.d"    Amo      0x8000302f 0xf800707f A         "rd = mem64; mem64 = min_s(mem64, rs2)";
            amomax_d    AmomaxD     "amomax.d"    Amo      0xa000302f 0xf800707f A         "rd = mem64; mem64 = max_s(mem64, rs2)";
            amominu_d   AmominuD    "amominu.d"   Amo      0xc000302f 0xf800707f A         "rd = mem64; mem64 = min_u(mem64, rs2)";
            amomaxu_d   AmomaxuD    "amomaxu.d"   Amo      0xe000302f 0xf800707f A         "rd = mem64; mem64 = max_u(mem64, rs2)";
            // F
            flw         Flw         "flw"         FLoad    0x00002007 0x0000707f F         "rd = mem32[rs1 + imm]; NaN-boxed";
            fsw         Fsw         "fsw"         FStore   0x00002027 0x0000707f F         "mem32[rs1 + imm] = rs2";
            fmadd_s     FmaddS      "fmadd.s"     FR4      0x00000043 0x0600007f F         "rd = rs1 * rs2 + rs3, one rounding";
            fmsub_s     FmsubS      "fmsub.s"     FR4      0x00000047 0x0600007f F         "rd = rs1 * rs2 - rs3, one rounding";
            fnmsub_s    FnmsubS     "fnmsub.s"    FR4      0x0000004b 0x0600007f F         "rd = -(rs1 * rs2) + rs3, one rounding";
            fnmadd_s    FnmaddS     "fnmadd.s"    FR4      0x0000004f 0x0600007f F         "rd = -(rs1 * rs2) - rs3, one rounding";
            fadd_s      FaddS       "fadd.s"      FR       0x00000053 0xfe00007f F         "rd = rs1 + rs2";
            fsub_s      FsubS       "fsub.s"      FR       0x08000053 0xfe00007f F         "rd = rs1 - rs2";
            fmul_s      FmulS       "fmul.s"      FR       0x10000053 0xfe00007f F         "rd = rs1 * rs2";
            fdiv_s      FdivS       "fdiv.s"      FR       0x18000053 0xfe00007f F         "rd = rs1 / rs2";
            fsqrt_s     FsqrtS      "fsqrt.s"     FR1      0x58000053 0xfff0007f F         "rd = sqrt(rs1)";
            fsgnj_s     FsgnjS      "fsgnj.s"     FRn      0x20000053 0xfe00707f F         "rd = rs1 with the sign of rs2";
            fsgnjn_s    FsgnjnS     "fsgnjn.s"    FRn      0x20001053 0xfe00707f F         "rd = rs1 with the inverted sign of rs2";
            fsgnjx_s    FsgnjxS     "fsgnjx.s"    FRn      0x20002053 0xfe00707f F         "rd = rs1 with the xor of both signs";
            fmin_s      FminS       "fmin.s"      FRn      0x28000053 0xfe00707f F         "rd = minimumNumber(rs1, rs2)";
            fmax_s      FmaxS       "fmax.s"      FRn      0x28001053 0xfe00707f F         "rd = maximumNumber(rs1, rs2)";
            fle_s       FleS        "fle.s"       FCmp     0xa0000053 0xfe00707f F         "rd = rs1 <= rs2; signaling";
            flt_s       FltS        "flt.s"       FCmp     0xa0001053 0xfe00707f F         "rd = rs1 < rs2; signaling";
            feq_s       FeqS        "feq.s"       FCmp     0xa0002053 0xfe00707f F         "rd = rs1 == rs2; quiet";
            fcvt_w_s    FcvtWS      "fcvt.w.s"    FToX     0xc0000053 0xfff0007f F         "rd = i32(rs1), saturating";
            fcvt_s_w    FcvtSW      "fcvt.s.w"    XToF     0xd0000053 0xfff0007f F         "rd = f32(i32 rs1)";
            fcvt_wu_s   FcvtWuS     "fcvt.wu.s"   FToX     0xc0100053 0xfff0007f F         "rd = u32(rs1), saturating";
            fcvt_s_wu   FcvtSWu     "fcvt.s.wu"   XToF     0xd0100053 0xfff0007f F         "rd = f32(u32 rs1)";
            fcvt_l_s    FcvtLS      "fcvt.l.s"    FToX     0xc0200053 0xfff0007f F         "rd = i64(rs1), saturating";
            fcvt_s_l    FcvtSL      "fcvt.s.l"    XToF     0xd0200053 0xfff0007f F         "rd = f32(i64 rs1)";
            fcvt_lu_s   FcvtLuS     "fcvt.lu.s"   FToX     0xc0300053 0xfff0007f F         "rd = u64(rs1), saturating";
            fcvt_s_lu   FcvtSLu     "fcvt.s.lu"   XToF     0xd0300053 0xfff0007f F         "rd = f32(u64 rs1)";
            fmv_x_w     FmvXW       "fmv.x.w"     FToXn    0xe0000053 0xfff0707f F         "rd = sext32(bits of rs1)";
            fclass_s    FclassS     "fclass.s"    FToXn    0xe0001053 0xfff0707f F         "rd = class mask of rs1";
            fmv_w_x     FmvWX       "fmv.w.x"     XToFn    0xf0000053 0xfff0707f F         "rd = bits of rs1; NaN-boxed";
            // D
            fld         Fld         "fld"         FLoad    0x00003007 0x0000707f D         "rd = mem64[rs1 + imm]";
            fsd         Fsd         "fsd"         FStore   0x00003027 0x0000707f D         "mem64[rs1 + imm] = rs2";
            fmadd_d     FmaddD      "fmadd.d"     FR4      0x02000043 0x0600007f D         "rd = rs1 * rs2 + rs3, one rounding";
            fmsub_d     FmsubD      "fmsub.d"     FR4      0x02000047 0x0600007f D         "rd = rs1 * rs2 - rs3, one rounding";
            fnmsub_d    FnmsubD     "fnmsub.d"    FR4      0x0200004b 0x0600007f D         "rd = -(rs1 * rs2) + rs3, one rounding";
            fnmadd_d    FnmaddD     "fnmadd.d"    FR4      0x0200004f 0x0600007f D         "rd = -(rs1 * rs2) - rs3, one rounding";
            fadd_d      FaddD       "fadd.d"      FR       0x02000053 0xfe00007f D         "rd = rs1 + rs2";
            fsub_d      FsubD       "fsub.d"      FR       0x0a000053 0xfe00007f D         "rd = rs1 - rs2";
            fmul_d      FmulD       "fmul.d"      FR       0x12000053 0xfe00007f D         "rd = rs1 * rs2";
            fdiv_d      FdivD       "fdiv.d"      FR       0x1a000053 0xfe00007f D         "rd = rs1 / rs2";
            fsqrt_d     FsqrtD      "fsqrt.d"     FR1      0x5a000053 0xfff0007f D         "rd = sqrt(rs1)";
            fsgnj_d     FsgnjD      "fsgnj.d"     FRn      0x22000053 0xfe00707f D         "rd = rs1 with the sign of rs2";
            fsgnjn_d    FsgnjnD     "fsgnjn.d"    FRn      0x22001053 0xfe00707f D         "rd = rs1 with the inverted sign of rs2";
            fsgnjx_d    FsgnjxD     "fsgnjx.d"    FRn      0x22002053 0xfe00707f D         "rd = rs1 with the xor of both signs";
            fmin_d      FminD       "fmin.d"      FRn      0x2a000053 0xfe00707f D         "rd = minimumNumber(rs1, rs2)";
            fmax_d      FmaxD       "fmax.d"      FRn      0x2a001053 0xfe00707f D         "rd = maximumNumber(rs1, rs2)";
            fle_d       FleD        "fle.d"       FCmp     0xa2000053 0xfe00707f D         "rd = rs1 <= rs2; signaling";
            flt_d       FltD        "flt.d"       FCmp     0xa2001053 0xfe00707f D         "rd = rs1 < rs2; signaling";
            feq_d       FeqD        "feq.d"       FCmp     0xa2002053 0xfe00707f D         "rd = rs1 == rs2; quiet";
            fcvt_w_d    FcvtWD      "fcvt.w.d"    FToX     0xc2000053 0xfff0007f D         "rd = i32(rs1), saturating";
            fcvt_d_w    FcvtDW      "fcvt.d.w"    XToF     0xd2000053 0xfff0007f D         "rd = f64(i32 rs1)";
            fcvt_wu_d   FcvtWuD     "fcvt.wu.d"   FToX     0xc2100053 0xfff0007f D         "rd = u32(rs1), saturating";
            fcvt_d_wu   FcvtDWu     "fcvt.d.wu"   XToF     0xd2100053 0xfff0007f D         "rd = f64(u32 rs1)";
            fcvt_l_d    FcvtLD      "fcvt.l.d"    FToX     0xc2200053 0xfff0007f D         "rd = i64(rs1), saturating";
            fcvt_d_l    FcvtDL      "fcvt.d.l"    XToF     0xd2200053 0xfff0007f D         "rd = f64(i64 rs1)";
            fcvt_lu_d   FcvtLuD     "fcvt.lu.d"   FToX     0xc2300053 0xfff0007f D         "rd = u64(rs1), saturating";
            fcvt_d_lu   FcvtDLu     "fcvt.d.lu"   XToF     0xd2300053 0xfff0007f D         "rd = f64(u64 rs1)";
            fcvt_s_d    FcvtSD      "fcvt.s.d"    FR1      0x40100053 0xfff0007f D         "rd = f32(rs1)";
            fcvt_d_s    FcvtDS      "fcvt.d.s"    FR1      0x42000053 0xfff0007f D         "rd = f64(rs1)";
            fmv_x_d     FmvXD       "fmv.x.d"     FToXn    0xe2000053 0xfff0707f D         "rd = bits of rs1";
            fclass_d    FclassD     "fclass.d"    FToXn    0xe2001053 0xfff0707f D         "rd = class mask of rs1";
            fmv_d_x     FmvDX       "fmv.d.x"     XToFn    0xf2000053 0xfff0707f D         "rd = bits of rs1";
            // Zba
            add_uw      AddUw       "add.uw"      R        0x0800003b 0xfe00707f Zba       "rd = zext32(rs1) + rs2";
            sh1add      Sh1add      "sh1add"      R        0x20002033 0xfe00707f Zba       "rd = (rs1 << 1) + rs2";
            sh2add      Sh2add      "sh2add"      R        0x20004033 0xfe00707f Zba       "rd = (rs1 << 2) + rs2";
            sh3add      Sh3add      "sh3add"      R        0x20006033 0xfe00707f Zba       "rd = (rs1 << 3) + rs2";
            sh1add_uw   Sh1addUw    "sh1add.uw"   R        0x2000203b 0xfe00707f Zba       "rd = (zext32(rs1) << 1) + rs2";
            sh2add_uw   Sh2addUw    "sh2add.uw"   R        0x2000403b 0xfe00707f Zba       "rd = (zext32(rs1) << 2) + rs2";
            sh3add_uw   Sh3addUw    "sh3add.uw"   R        0x2000603b 0xfe00707f Zba       "rd = (zext32(rs1) << 3) + rs2";
            slli_uw     SlliUw      "slli.uw"     Sh64     0x0800101b 0xfc00707f Zba       "rd = zext32(rs1) << shamt";
            // Zbb
            andn        Andn        "andn"        R        0x40007033 0xfe00707f Zbb       "rd = rs1 & !rs2";
            orn         Orn         "orn"         R        0x40006033 0xfe00707f Zbb       "rd = rs1 | !rs2";
            xnor        Xnor        "xnor"        R        0x40004033 0xfe00707f Zbb       "rd = !(rs1 ^ rs2)";
            clz         Clz         "clz"         R1       0x60001013 0xfff0707f Zbb       "rd = leading zeros; 64 for 0";
            ctz         Ctz         "ctz"         R1       0x60101013 0xfff0707f Zbb       "rd = trailing zeros; 64 for 0";
            cpop        Cpop        "cpop"        R1       0x60201013 0xfff0707f Zbb       "rd = population count";
            clzw        Clzw        "clzw"        R1       0x6000101b 0xfff0707f Zbb       "rd = leading zeros of low32; 32 for 0";
            ctzw        Ctzw        "ctzw"        R1       0x6010101b 0xfff0707f Zbb       "rd = trailing zeros of low32; 32 for 0";
            cpopw       Cpopw       "cpopw"       R1       0x6020101b 0xfff0707f Zbb       "rd = population count of low32";
            max         Max         "max"         R        0x0a006033 0xfe00707f Zbb       "rd = max_s(rs1, rs2)";
            maxu        Maxu        "maxu"        R        0x0a007033 0xfe00707f Zbb       "rd = max_u(rs1, rs2)";
            min         Min         "min"         R        0x0a004033 0xfe00707f Zbb       "rd = min_s(rs1, rs2)";
            minu        Minu        "minu"        R        0x0a005033 0xfe00707f Zbb       "rd = min_u(rs1, rs2)";
            sext_b      SextB       "sext.b"      R1       0x60401013 0xfff0707f Zbb       "rd = sext8(rs1)";
            sext_h      SextH       "sext.h"      R1       0x60501013 0xfff0707f Zbb       "rd = sext16(rs1)";
            zext_h      ZextH       "zext.h"      R1       0x0800403b 0xfff0707f Zbb       "rd = zext16(rs1)";
            rol         Rol         "rol"         R        0x60001033 0xfe00707f Zbb       "rd = rs1 rotated left by rs2 & 63";
            ror         Ror         "ror"         R        0x60005033 0xfe00707f Zbb       "rd = rs1 rotated right by rs2 & 63";
            rori        Rori        "rori"        Sh64     0x60005013 0xfc00707f Zbb       "rd = rs1 rotated right by shamt";
            rolw        Rolw        "rolw"        R        0x6000103b 0xfe00707f Zbb       "rd = sext32(low32 rotated left by rs2 & 31)";
            rorw        Rorw        "rorw"        R        0x6000503b 0xfe00707f Zbb       "rd = sext32(low32 rotated right by rs2 & 31)";
            roriw       Roriw       "roriw"       Sh32     0x6000501b 0xfe00707f Zbb       "rd = sext32(low32 rotated right by shamt)";
            orc_b       OrcB        "orc.b"       R1       0x28705013 0xfff0707f Zbb       "rd = each byte: 0xff if not 0";
            rev8        Rev8        "rev8"        R1       0x6b805013 0xfff0707f Zbb       "rd = bytes reversed";
            // Zbc
            clmul       Clmul       "clmul"       R        0x0a001033 0xfe00707f Zbc       "rd = low64(carry-less product)";
            clmulh      Clmulh      "clmulh"      R        0x0a003033 0xfe00707f Zbc       "rd = high64(carry-less product)";
            clmulr      Clmulr      "clmulr"      R        0x0a002033 0xfe00707f Zbc       "rd = bits 64..127 of product << 1";
            // Zbs
            bclr        Bclr        "bclr"        R        0x48001033 0xfe00707f Zbs       "rd = rs1 & !(1 << (rs2 & 63))";
            bclri       Bclri       "bclri"       Sh64     0x48001013 0xfc00707f Zbs       "rd = rs1 & !(1 << shamt)";
            bext        Bext        "bext"        R        0x48005033 0xfe00707f Zbs       "rd = (rs1 >>u (rs2 & 63)) & 1";
            bexti       Bexti       "bexti"       Sh64     0x48005013 0xfc00707f Zbs       "rd = (rs1 >>u shamt) & 1";
            binv        Binv        "binv"        R        0x68001033 0xfe00707f Zbs       "rd = rs1 ^ (1 << (rs2 & 63))";
            binvi       Binvi       "binvi"       Sh64     0x68001013 0xfc00707f Zbs       "rd = rs1 ^ (1 << shamt)";
            bset        Bset        "bset"        R        0x28001033 0xfe00707f Zbs       "rd = rs1 | (1 << (rs2 & 63))";
            bseti       Bseti       "bseti"       Sh64     0x28001013 0xfc00707f Zbs       "rd = rs1 | (1 << shamt)";
            // Zbkx
            xperm4      Xperm4      "xperm4"      R        0x28002033 0xfe00707f Zbkx      "rd = nibbles of rs1 chosen by nibbles of rs2";
            xperm8      Xperm8      "xperm8"      R        0x28004033 0xfe00707f Zbkx      "rd = bytes of rs1 chosen by bytes of rs2; 0 beyond";
            // Zicond
            czero_eqz   CzeroEqz    "czero.eqz"   R        0x0e005033 0xfe00707f Zicond    "rd = rs2 == 0 ? 0 : rs1";
            czero_nez   CzeroNez    "czero.nez"   R        0x0e007033 0xfe00707f Zicond    "rd = rs2 != 0 ? 0 : rs1";
        }
    };
}
pub(crate) use for_each_inst;
