//! A picture of several reports: who ran when, and how long requests took.
//!
//! ```text
//!  title                              legend of priorities
//!  policy 1   vcpu 0 [###|==|...]     one lane for each vCPU
//!             vcpu 1 [...]
//!  policy 2   …
//!             time axis, shared
//!  response times: cumulative share over a logarithmic axis, legend beside it
//! ```
//!
//! One file without scripts, fonts or links. It brings its own background, which
//! is dark where the viewer asks for dark, so it can be read on any page.

use std::fmt::Write as _;

use super::report::{SimReport, time};
use super::trace::What;
use super::workload::Workload;
use crate::Priority;

/// Width of the whole, in pixels at 100 %.
const WIDTH: f64 = 1080.0;
/// Where lanes and axes begin and end.
const LEFT: f64 = 190.0;
const RIGHT: f64 = WIDTH - 24.0;
const LANE_HEIGHT: f64 = 22.0;
const LANE_GAP: f64 = 3.0;
/// Between policies.
const GROUP_GAP: f64 = 14.0;
/// Lanes are drawn for this many vCPUs of each policy; more would be stripes.
const LANES_MAX: usize = 8;
const CDF_HEIGHT: f64 = 260.0;
/// Beside the curves.
const CDF_LEGEND: f64 = 284.0;
/// What is narrower is drawn together with its neighbours.
const BLOCK_WIDTH_MIN: f64 = 1.0;
/// About what a character of a label needs.
const CHAR_WIDTH: f64 = 6.2;

/// Colours of Okabe and Ito, "Color Universal Design" (2008), which people with
/// any colour vision tell apart; by [`Priority::level`].
const PRIORITY_COLOURS: [&str; 4] = ["#56b4e9", "#009e73", "#e69f00", "#d55e00"];
/// The same palette for curves, each with a dash pattern of its own.
const CURVES: [(&str, &str); 6] = [
    ("#0072b2", ""),
    ("#d55e00", "9 4"),
    ("#009e73", "2 3"),
    ("#cc79a7", "10 3 2 3"),
    ("#e69f00", "5 3"),
    ("#56b4e9", "14 4"),
];

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#1f2328}\
.back{fill:#fff;stroke:#d0d7de}.title{font-size:15px;font-weight:600}.name{font-weight:600}\
.dim{fill:#59636e}.in{font-size:10.5px;fill:#111}.lane{fill:#eff2f5}\
.axis{stroke:#59636e;fill:none}.grid{stroke:#d8dee4;fill:none}\
.num{font-variant-numeric:tabular-nums}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117;stroke:#3d444d}\
.dim{fill:#9198a1}.in{fill:#111}.lane{fill:#1c2128}.axis{stroke:#9198a1}.grid{stroke:#2a3038}}";

/// Draws the reports of one workload, all policies over one time axis, and the
/// distribution of their response times. Lanes need reports with
/// [`keeps_trace`](super::SimConfig::keeps_trace); without, only the
/// distribution is drawn. `title` is shown on top.
#[must_use]
pub fn comparison_svg(title: &str, workload: &Workload, reports: &[SimReport]) -> String {
    let mut picture = Picture::default();
    picture.text(24.0, 32.0, "title", title);
    let drawn: Vec<&SimReport> = reports
        .iter()
        .filter(|report| !report.trace.events.is_empty())
        .collect();
    let mut top = 52.0;
    if !drawn.is_empty() {
        picture.legend(top, workload);
        top = picture.lanes(top + 24.0, workload, &drawn) + 30.0;
    }
    let height = picture.curves(top, reports) + 20.0;
    picture.finish(height)
}

#[derive(Debug, Default)]
struct Picture {
    body: String,
}

/// Writing to a string does not fail.
macro_rules! draw {
    ($picture:expr, $($format:tt)*) => {{
        let _ = writeln!($picture.body, $($format)*);
    }};
}

impl Picture {
    fn finish(self, height: f64) -> String {
        let body = self.body;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\">\n\
             <style>{STYLE}</style>\n\
             <rect class=\"back\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{:.0}\" rx=\"8\"/>\n\
             {body}</svg>\n",
            WIDTH - 1.0,
            height - 1.0,
        )
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.anchored(x, y, class, "start", text);
    }

    fn anchored(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        draw!(
            self,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        draw!(
            self,
            "<path class=\"{class}\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
            from.0,
            from.1,
            to.0,
            to.1
        );
    }

    /// The priorities that occur.
    fn legend(&mut self, y: f64, workload: &Workload) {
        let mut x = LEFT;
        self.text(24.0, y + 11.0, "dim", "who ran when");
        for priority in Priority::ALL.into_iter().rev() {
            if !workload.jobs().iter().any(|job| job.priority == priority) {
                continue;
            }
            let colour = PRIORITY_COLOURS[priority.level()];
            draw!(
                self,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"14\" height=\"14\" rx=\"2\" fill=\"{colour}\"/>"
            );
            self.text(x + 20.0, y + 11.0, "", priority.name());
            x += 20.0 + priority.name().len() as f64 * 7.5 + 22.0;
        }
    }

    /// All policies' lanes and the axis below; where that ends.
    fn lanes(&mut self, top: f64, workload: &Workload, reports: &[&SimReport]) -> f64 {
        let end_ns = reports
            .iter()
            .map(|report| report.end_ns)
            .max()
            .unwrap_or(0);
        let scale = Linear::new(end_ns);
        let mut y = top;
        let grid = self.body.len();
        for report in reports {
            let n_lanes = report.vcpu_count.min(LANES_MAX);
            let pitch = LANE_HEIGHT + LANE_GAP;
            self.text(24.0, y + 15.0, "name", report.policy);
            let note = format!("done at {}", time(report.end_ns as f64));
            let has_room = n_lanes > 1;
            if has_room {
                self.text(24.0, y + 15.0 + pitch, "dim num", &note);
            }
            for vcpu in 0..n_lanes {
                let lane_y = y + vcpu as f64 * pitch;
                self.anchored(
                    LEFT - 8.0,
                    lane_y + 15.0,
                    "dim",
                    "end",
                    &format!("vCPU {vcpu}"),
                );
                draw!(
                    self,
                    "<rect class=\"lane\" x=\"{LEFT}\" y=\"{lane_y:.1}\" width=\"{:.1}\" height=\"{LANE_HEIGHT}\"/>",
                    RIGHT - LEFT
                );
                for block in blocks(report, vcpu, &scale) {
                    self.block(&block, lane_y, workload);
                }
            }
            y += n_lanes as f64 * pitch;
            if report.vcpu_count > LANES_MAX {
                let more = format!("and {} vCPUs more", report.vcpu_count - LANES_MAX);
                self.text(LEFT, y + 12.0, "dim", &more);
                y += 18.0;
            }
            y += GROUP_GAP;
        }
        y -= GROUP_GAP - LANE_GAP;
        // Grid lines go below the lanes.
        let mut below = Picture::default();
        for tick_ns in scale.ticks() {
            let x = scale.x(tick_ns as f64);
            below.line("grid", (x, top - 4.0), (x, y + 4.0));
            self.anchored(x, y + 18.0, "dim num", "middle", &scale.label(tick_ns));
        }
        self.body.insert_str(grid, &below.body);
        self.line("axis", (LEFT, y + 4.0), (RIGHT, y + 4.0));
        y + 18.0
    }

    fn block(&mut self, block: &Block, lane_y: f64, workload: &Workload) {
        let colour = PRIORITY_COLOURS[block.priority.level()];
        let width = block.to - block.from;
        // A hair of background tells neighbours of one colour apart.
        let gap = if width > 4.0 { 0.8 } else { 0.0 };
        draw!(
            self,
            "<rect x=\"{:.1}\" y=\"{lane_y:.1}\" width=\"{:.1}\" height=\"{LANE_HEIGHT}\" fill=\"{colour}\"/>",
            block.from,
            (width - gap).max(0.3)
        );
        let Some(id) = block.coroutine else { return };
        let job = &workload.jobs()[id as usize];
        let number = id.to_string();
        let name = job.name.as_deref().unwrap_or(&number);
        if name.chars().count() as f64 * CHAR_WIDTH + 4.0 <= width {
            let middle = (block.from + block.to) / 2.0;
            self.anchored(middle, lane_y + 15.0, "in", "middle", name);
        }
    }

    /// The distribution of response times; where that ends.
    fn curves(&mut self, top: f64, reports: &[SimReport]) -> f64 {
        let right = RIGHT - CDF_LEGEND;
        let (chart_top, bottom) = (top + 20.0, top + 20.0 + CDF_HEIGHT);
        let sorted: Vec<Vec<u64>> = reports.iter().map(SimReport::responses_ns).collect();
        let shortest = sorted.iter().filter_map(|list| list.first()).min().copied();
        let longest = sorted.iter().filter_map(|list| list.last()).max().copied();
        let (Some(shortest), Some(longest)) = (shortest, longest) else {
            self.text(LEFT, top + 20.0, "dim", "no request was done");
            return top + 30.0;
        };
        let scale = Logarithmic::new(shortest, longest, LEFT, right);

        self.text(24.0, chart_top + 11.0, "name", "response times");
        self.text(24.0, chart_top + 29.0, "dim", "share of requests");
        self.text(24.0, chart_top + 44.0, "dim", "done within a time");
        for percent in [0, 25, 50, 75, 100] {
            let y = bottom - CDF_HEIGHT * f64::from(percent) / 100.0;
            self.line("grid", (LEFT, y), (right, y));
            self.anchored(
                LEFT - 8.0,
                y + 4.0,
                "dim num",
                "end",
                &format!("{percent} %"),
            );
        }
        for (ns, label) in scale.ticks() {
            let x = scale.x(ns);
            self.line("grid", (x, chart_top), (x, bottom));
            if let Some(label) = label {
                self.anchored(x, bottom + 16.0, "dim num", "middle", &label);
            }
        }
        self.line("axis", (LEFT, bottom), (right, bottom));
        let middle = (LEFT + right) / 2.0;
        let caption = "from ready to done, less is better (logarithmic)";
        self.anchored(middle, bottom + 34.0, "dim", "middle", caption);

        let legend_x = right + 24.0;
        self.anchored(legend_x + 192.0, chart_top + 4.0, "dim", "end", "p50");
        self.anchored(legend_x + 260.0, chart_top + 4.0, "dim", "end", "p99");
        for (index, (report, list)) in reports.iter().zip(&sorted).enumerate() {
            let (colour, dashes) = CURVES[index % CURVES.len()];
            let stroke = format!(
                "fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\" stroke-dasharray=\"{dashes}\""
            );
            draw!(
                self,
                "<path d=\"{}\" {stroke}/>",
                staircase(list, &scale, bottom)
            );
            let y = chart_top + 26.0 + index as f64 * 22.0;
            draw!(self, "<path d=\"M{legend_x:.1} {y:.1}h30\" {stroke}/>");
            self.text(legend_x + 38.0, y + 4.0, "", report.policy);
            let [p50, p99] = [report.response.p50_ns, report.response.p99_ns];
            self.anchored(legend_x + 192.0, y + 4.0, "num", "end", &time(p50 as f64));
            self.anchored(legend_x + 260.0, y + 4.0, "num", "end", &time(p99 as f64));
        }
        bottom + 38.0
    }
}

/// Time a coroutine had a vCPU, in pixels.
#[derive(Debug, PartialEq)]
struct Block {
    from: f64,
    to: f64,
    priority: Priority,
    /// `None` for several ones.
    coroutine: Option<u32>,
}

/// The turns of one vCPU. Turns that follow upon each other by the same
/// coroutine are one block; what is narrower than a pixel is collected into
/// blocks of a pixel, in the colour that had most of it.
fn blocks(report: &SimReport, vcpu: usize, scale: &Linear) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut crumbs = Crumbs::default();
    let mut open: Option<(u32, u64)> = None;
    let here = |event: &&super::Event| usize::from(event.vcpu) == vcpu;
    let mut turns: Vec<(u32, u64, u64)> = Vec::new();
    for event in report.trace.events.iter().filter(here) {
        if event.what == What::Started {
            open = Some((event.coroutine, event.at_ns));
        } else if event.what.ends_turn()
            && let Some((id, from_ns)) = open.take()
        {
            match turns.last_mut() {
                Some((last, _, to_ns)) if *last == id && *to_ns == from_ns => *to_ns = event.at_ns,
                _ => turns.push((id, from_ns, event.at_ns)),
            }
        }
    }
    // Cut in the middle of a turn.
    turns.extend(open.map(|(id, from_ns)| (id, from_ns, report.end_ns)));

    for (id, from_ns, to_ns) in turns {
        let (from, to) = (scale.x(from_ns as f64), scale.x(to_ns as f64));
        let priority = report.coroutines[id as usize].priority;
        if to - from >= BLOCK_WIDTH_MIN {
            blocks.extend(crumbs.take());
            blocks.push(Block {
                from,
                to,
                priority,
                coroutine: Some(id),
            });
            continue;
        }
        if crumbs.is_full(to) {
            blocks.extend(crumbs.take());
        }
        crumbs.add(from, to, priority);
    }
    blocks.extend(crumbs.take());
    blocks
}

/// Turns too short to be seen.
#[derive(Debug, Default)]
struct Crumbs {
    span: Option<(f64, f64)>,
    widths: [f64; 4],
}

impl Crumbs {
    fn is_full(&self, to: f64) -> bool {
        self.span
            .is_some_and(|(from, _)| to - from > BLOCK_WIDTH_MIN)
    }

    fn add(&mut self, from: f64, to: f64, priority: Priority) {
        let (start, _) = *self.span.get_or_insert((from, to));
        self.span = Some((start, to));
        self.widths[priority.level()] += to - from;
    }

    fn take(&mut self) -> Option<Block> {
        let (from, to) = self.span.take()?;
        let widths = std::mem::take(&mut self.widths);
        let most = Priority::ALL.into_iter().max_by(|a, b| {
            let (a, b) = (widths[a.level()], widths[b.level()]);
            a.total_cmp(&b)
        })?;
        // As wide as all of it together: a sparse lane stays light.
        let width: f64 = widths.iter().sum();
        Some(Block {
            from,
            to: to.min(from + width.max(0.3)),
            priority: most,
            coroutine: None,
        })
    }
}

/// Time to x, from 0.
#[derive(Debug)]
struct Linear {
    end_ns: u64,
}

impl Linear {
    fn new(end_ns: u64) -> Linear {
        let end_ns = end_ns.max(1);
        Linear { end_ns }
    }

    fn x(&self, ns: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * ns / self.end_ns as f64
    }

    fn step(&self) -> u64 {
        let wanted = self.end_ns.div_ceil(10).max(1);
        let power = 10_u64.pow(wanted.ilog10());
        let steps = [power, 2 * power, 5 * power, 10 * power];
        let fits = steps.into_iter().find(|step| *step >= wanted);
        fits.unwrap_or(10 * power)
    }

    fn ticks(&self) -> impl Iterator<Item = u64> + use<> {
        (0..=self.end_ns).step_by(usize::try_from(self.step()).unwrap_or(usize::MAX))
    }

    /// All in the unit of the step, so that they can be compared at a glance.
    fn label(&self, ns: u64) -> String {
        let step = self.step();
        let (unit_ns, unit) = match step {
            _ if step >= 1_000_000_000 => (1_000_000_000, "s"),
            _ if step >= 1_000_000 => (1_000_000, "ms"),
            _ if step >= 1_000 => (1_000, "µs"),
            _ => (1, "ns"),
        };
        format!("{} {unit}", ns / unit_ns)
    }
}

/// Time to x, each factor of ten equally wide.
#[derive(Debug)]
struct Logarithmic {
    first: f64,
    last: f64,
    left: f64,
    right: f64,
}

impl Logarithmic {
    fn new(shortest_ns: u64, longest_ns: u64, left: f64, right: f64) -> Logarithmic {
        let first = (shortest_ns.max(1) as f64).log10();
        let last = (longest_ns.max(1) as f64).log10();
        // Some room on both sides.
        let room = ((last - first) * 0.03).max(0.05);
        Logarithmic {
            first: first - room,
            last: last + room,
            left,
            right,
        }
    }

    fn x(&self, ns: f64) -> f64 {
        let part = (ns.max(1.0).log10() - self.first) / (self.last - self.first);
        self.left + (self.right - self.left) * part
    }

    /// 1, 2 and 5 of each power of ten, with a label where there is room.
    fn ticks(&self) -> Vec<(f64, Option<String>)> {
        let decade = (self.right - self.left) / (self.last - self.first);
        let mut ticks = Vec::new();
        for power in self.first.floor() as i32..=self.last.ceil() as i32 {
            for digit in [1.0, 2.0, 5.0] {
                let ns = digit * 10_f64.powi(power);
                if !(self.first..=self.last).contains(&ns.log10()) {
                    continue;
                }
                let is_shown = digit == 1.0 || decade > 200.0;
                ticks.push((ns, is_shown.then(|| short_time(ns))));
            }
        }
        ticks
    }
}

/// Without decimals: ticks are round.
fn short_time(ns: f64) -> String {
    match ns {
        _ if ns < 1e3 => format!("{ns:.0} ns"),
        _ if ns < 1e6 => format!("{:.0} µs", ns / 1e3),
        _ if ns < 1e9 => format!("{:.0} ms", ns / 1e6),
        _ => format!("{:.0} s", ns / 1e9),
    }
}

/// The cumulative distribution as a path; at most one step for each pixel.
fn staircase(sorted_ns: &[u64], scale: &Logarithmic, bottom: f64) -> String {
    let mut path = String::new();
    let count = sorted_ns.len().max(1) as f64;
    let mut last_x = f64::NEG_INFINITY;
    let mut y = bottom;
    for (index, ns) in sorted_ns.iter().enumerate() {
        let x = scale.x(*ns as f64);
        let next_y = bottom - CDF_HEIGHT * (index + 1) as f64 / count;
        let is_last = index + 1 == sorted_ns.len();
        let _ = match path.is_empty() {
            true => write!(path, "M{x:.1} {bottom:.1}V{next_y:.1}"),
            false if x - last_x >= 0.5 || is_last => write!(path, "V{y:.1}H{x:.1}V{next_y:.1}"),
            false => {
                y = next_y;
                continue;
            }
        };
        (last_x, y) = (x, next_y);
    }
    if !path.is_empty() {
        // On to the right edge: all are done by then.
        let _ = write!(path, "H{:.1}", scale.right);
    }
    path
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Fcfs, RoundRobin};
    use crate::sim::{Job, SimConfig, simulate};
    use std::time::Duration;

    fn reports(workload: &Workload, vcpu_count: usize, keeps_trace: bool) -> [SimReport; 2] {
        let config = SimConfig {
            vcpu_count,
            keeps_trace,
            ..SimConfig::default()
        };
        let turns = RoundRobin::new(Duration::from_micros(10));
        [
            simulate(&config, &Fcfs, workload).unwrap(),
            simulate(&config, &turns, workload).unwrap(),
        ]
    }

    /// Every element is closed and nothing is `NaN`.
    #[track_caller]
    fn check(svg: &str) {
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for name in ["text", "style"] {
            let opened = svg.matches(&format!("<{name}")).count();
            assert_eq!(opened, svg.matches(&format!("</{name}>")).count());
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn pictures_are_well_formed_and_bounded() {
        let named = Job {
            name: Some("a<b & c".to_owned()),
            ..Job::new(0, 1_000_000, Priority::High)
        };
        let few = Workload::new(vec![named, Job::new(0, 1, Priority::Low)]);
        let svg = comparison_svg("two & more", &few, &reports(&few, 1, true));
        check(&svg);
        assert!(svg.contains("two &amp; more") && svg.contains("a&lt;b &amp; c"));

        let many = crate::sim::Generator::Bimodal.generate(1, 20_000, 40, 80);
        let svg = comparison_svg("many", &many, &reports(&many, 40, true));
        check(&svg);
        assert!(svg.contains("and 32 vCPUs more"));
        assert!(svg.len() < 3_000_000, "{}", svg.len());

        let nothing = Workload::default();
        check(&comparison_svg(
            "nothing",
            &nothing,
            &reports(&nothing, 1, true),
        ));
        check(&comparison_svg("curves", &few, &reports(&few, 1, false)));
    }

    #[test]
    fn crumbs_take_the_colour_of_most() {
        let mut crumbs = Crumbs::default();
        crumbs.add(10.0, 10.2, Priority::Low);
        crumbs.add(10.2, 10.7, Priority::High);
        assert!(!crumbs.is_full(10.9) && crumbs.is_full(11.1));
        let block = crumbs.take().unwrap();
        assert_eq!((block.priority, block.coroutine), (Priority::High, None));
        assert!((block.to - 10.7).abs() < 1e-9);
        assert_eq!(crumbs.take(), None);
    }

    #[test]
    fn axes_have_round_ticks() {
        let label = |end_ns| {
            let scale = Linear::new(end_ns);
            scale.ticks().map(|ns| scale.label(ns)).collect::<Vec<_>>()
        };
        assert_eq!(label(42_000_000).last().unwrap(), "40 ms");
        assert_eq!(
            label(1_000),
            [
                "0 ns", "100 ns", "200 ns", "300 ns", "400 ns", "500 ns", "600 ns", "700 ns",
                "800 ns", "900 ns", "1000 ns"
            ]
        );
        assert!(label(7).len() <= 11);
        let scale = Logarithmic::new(900, 1_100_000, 0.0, 300.0);
        let shown: Vec<_> = scale
            .ticks()
            .into_iter()
            .filter_map(|(_, label)| label)
            .collect();
        assert_eq!(shown, ["1 µs", "10 µs", "100 µs", "1 ms"]);
    }
}
