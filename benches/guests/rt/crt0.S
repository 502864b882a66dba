# Entry of a freestanding RV64 guest. Linux starts it with
#
#   sp -> argc | argv[0] … argv[argc-1] | 0 | envp … 0 | auxv
#
# and sp 16-byte aligned, as the ABI wants it at a call.
        .text
        .globl  _start
        .type   _start, @function
_start:
        .option push
        .option norelax                 # else this becomes gp = gp
        la      gp, __global_pointer$
        .option pop
        ld      a0, 0(sp)
        addi    a1, sp, 8
        mv      fp, zero                # ends a frame-pointer walk
        call    main
        tail    rt_exit
        .size   _start, . - _start
        .section .note.GNU-stack, "", @progbits
