//! Charts as inline SVG, 360 units wide: one unit is about one pixel on a phone,
//! where text must still be readable. Colours are classes of the page's style, so
//! that dark mode reaches them.

use std::fmt::{Display, Write as _};

use crate::report::markup::Escaped;

const WIDTH: f64 = 360.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 34.0;

/// Maps values to positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    lo: f64,
    hi: f64,
}

impl Axis {
    /// An axis that covers `values` with a little room, and never has no extent.
    /// What is not finite is not covered.
    pub(super) fn around(values: impl IntoIterator<Item = f64>) -> Self {
        let finite = values.into_iter().filter(|value| value.is_finite());
        let (lo, hi) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), value| {
            (lo.min(value), hi.max(value))
        });
        if lo > hi {
            return Self { lo: 0.0, hi: 1.0 };
        }
        let room = if hi > lo {
            0.04 * (hi - lo)
        } else {
            0.05 * hi.abs().max(1e-9)
        };
        Self {
            lo: lo - room,
            hi: hi + room,
        }
    }

    /// The same, beginning at `lo`.
    pub(super) fn from(mut self, lo: f64) -> Self {
        self.lo = lo;
        self
    }

    /// Its lower end.
    pub(super) fn lo(self) -> f64 {
        self.lo
    }

    /// `count` values from end to end, evenly spaced.
    pub(super) fn points(self, count: u32) -> impl Iterator<Item = f64> {
        let step = (self.hi - self.lo) / f64::from(count - 1);
        (0..count).map(move |index| self.lo + step * f64::from(index))
    }

    fn share(self, value: f64) -> f64 {
        ((value - self.lo) / (self.hi - self.lo)).clamp(0.0, 1.0)
    }

    /// About `count` round values within the axis.
    pub(super) fn ticks(self, count: f64) -> Vec<f64> {
        let rough = (self.hi - self.lo) / count;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * magnitude)
            .find(|step| *step >= 0.7 * rough)
            .unwrap_or(10.0 * magnitude);
        let first = (self.lo / step).ceil() as i64;
        let last = (self.hi / step).floor() as i64;
        (first..=last).map(|index| index as f64 * step).collect()
    }
}

/// A chart that is being drawn.
pub(super) struct Plot {
    x: Axis,
    y: Axis,
    height: f64,
    body: String,
}

impl Plot {
    pub(super) fn new(x: Axis, y: Axis, height: f64) -> Self {
        Self {
            x,
            y,
            height,
            body: String::new(),
        }
    }

    fn px(&self, x: f64) -> f64 {
        LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT)
    }

    fn py(&self, y: f64) -> f64 {
        self.height - BOTTOM - self.y.share(y) * (self.height - TOP - BOTTOM)
    }

    /// A mark with a label below the axis, and a faint line up.
    pub(super) fn x_tick(&mut self, at: f64, label: impl Display) {
        let (x, top, bottom) = (self.px(at), TOP, self.height - BOTTOM);
        let label = label.to_string();
        let _ = write!(
            self.body,
            "<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 13.0,
            Escaped(&label)
        );
    }

    /// A mark with a label left of the axis, and a faint line across.
    pub(super) fn y_tick(&mut self, at: f64, label: impl Display) {
        let (y, right) = (self.py(at), WIDTH - RIGHT);
        let label = label.to_string();
        let _ = write!(
            self.body,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 4.0,
            y + 3.5,
            Escaped(&label)
        );
    }

    /// What the horizontal axis is.
    pub(super) fn x_title(&mut self, title: &str) {
        let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, self.height - 5.0);
        let _ = write!(
            self.body,
            "<text class=\"dim\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
            Escaped(title)
        );
    }

    /// A word in the drawing, from its left end; line −1 is above it.
    pub(super) fn note(&mut self, class: &str, x: f64, line: f64, text: &str) {
        let (x, y) = (self.px(x) + 3.0, TOP + 9.0 + 13.0 * line);
        let _ = write!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
            Escaped(text)
        );
    }

    /// A line through points, filled down to the bottom if `filled`.
    pub(super) fn line(&mut self, class: &str, points: &[(f64, f64)], filled: bool) {
        let Some(((first, _), (last, _))) = points.first().zip(points.last()) else {
            return;
        };
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.px(*x), self.py(*y));
        }
        if filled {
            let bottom = self.height - BOTTOM;
            let (first, last) = (self.px(*first), self.px(*last));
            let _ = write!(
                self.body,
                "<path class=\"{class} area\" d=\"{path}L{last:.1} {bottom:.1}L{first:.1} {bottom:.1}Z\"/>"
            );
        }
        let _ = write!(self.body, "<path class=\"{class} line\" d=\"{path}\"/>");
    }

    /// A point; `title` is shown when pointed at.
    pub(super) fn dot(&mut self, class: &str, x: f64, y: f64, title: &str) {
        let _ = write!(
            self.body,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\"><title>{}</title></circle>",
            self.px(x),
            self.py(y),
            Escaped(title)
        );
    }

    /// A short mark on the horizontal axis, in row `row` from the bottom.
    pub(super) fn rug(&mut self, class: &str, x: f64, row: f64) {
        let (x, y) = (self.px(x), self.height - BOTTOM - 7.0 * row);
        let _ = write!(
            self.body,
            "<path class=\"{class} rug\" d=\"M{x:.1} {y:.1}v-6\"/>"
        );
    }

    /// A vertical line over the whole height.
    pub(super) fn x_rule(&mut self, class: &str, at: f64) {
        let (x, bottom) = (self.px(at), self.height - BOTTOM);
        let _ = write!(
            self.body,
            "<path class=\"{class} rule\" d=\"M{x:.1} {TOP}V{bottom:.1}\"/>"
        );
    }

    /// A horizontal line over the whole width.
    pub(super) fn y_rule(&mut self, class: &str, at: f64) {
        let (y, right) = (self.py(at), WIDTH - RIGHT);
        let _ = write!(
            self.body,
            "<path class=\"{class} rule\" d=\"M{LEFT} {y:.1}H{right:.1}\"/>"
        );
    }

    /// A horizontal band.
    pub(super) fn y_band(&mut self, class: &str, lo: f64, hi: f64) {
        let (top, bottom) = (self.py(hi), self.py(lo));
        let _ = write!(
            self.body,
            "<rect class=\"{class} band\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            WIDTH - LEFT - RIGHT,
            (bottom - top).max(1.0)
        );
    }

    /// The chart with a caption.
    pub(super) fn figure(self, caption: &str) -> String {
        let height = self.height;
        format!(
            "<figure><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\">{1}</svg>\
             <figcaption>{0}</figcaption></figure>\n",
            Escaped(caption),
            self.body
        )
    }
}

/// One row of [`forest`].
pub(super) struct ForestRow<'a> {
    pub(super) label: &'a str,
    pub(super) class: &'a str,
    /// Estimate and its interval.
    pub(super) value: f64,
    pub(super) lo: f64,
    pub(super) hi: f64,
}

/// Intervals below each other, every one under its name: on a phone there is no
/// room for names at the side.
pub(super) fn forest(
    rows: &[ForestRow<'_>],
    rules: &[(&str, f64)],
    tick_label: impl Fn(f64) -> String,
    label: impl Fn(f64) -> String,
    caption: &str,
) -> String {
    const ROW: f64 = 30.0;
    const SIDE: f64 = 14.0;
    let ends = rows.iter().flat_map(|row| [row.lo, row.hi]);
    let axis = Axis::around(ends.chain(rules.iter().map(|(_, at)| *at)));
    let at = |value: f64| SIDE + axis.share(value) * (WIDTH - 2.0 * SIDE);
    let bottom = 6.0 + ROW * rows.len() as f64;
    let mut body = String::new();
    for tick in axis.ticks(5.0) {
        let x = at(tick);
        let _ = write!(
            body,
            "<path class=\"grid\" d=\"M{x:.1} 4V{bottom:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 13.0,
            Escaped(tick_label(tick))
        );
    }
    for (class, value) in rules {
        let x = at(*value);
        let _ = write!(
            body,
            "<path class=\"{class} rule\" d=\"M{x:.1} 4V{bottom:.1}\"/>"
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let top = 6.0 + ROW * index as f64;
        let y = top + 20.0;
        let _ = write!(
            body,
            "<text class=\"halo\" x=\"{SIDE}\" y=\"{:.1}\">{}</text>\
             <path class=\"{class} line\" d=\"M{:.1} {y:.1}H{:.1}\"/>\
             <circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{}</title></circle>",
            top + 11.0,
            Escaped(shortened(row.label)),
            at(row.lo),
            at(row.hi),
            at(row.value),
            Escaped(format!(
                "{}: {} ({} to {})",
                row.label,
                label(row.value),
                label(row.lo),
                label(row.hi)
            )),
            class = row.class,
        );
    }
    format!(
        "<figure class=\"wide\"><svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{1}\">{body}</svg>\
         <figcaption>{1}</figcaption></figure>\n",
        bottom + 20.0,
        Escaped(caption)
    )
}

/// What fits on a line of a chart; the full text is in its title.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 52;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    text.chars()
        .take(CHARS_MAX - 1)
        .chain(['\u{2026}'])
        .collect()
}

/// A bar from the left to `value`, with marks where the bounds are. All are shares
/// of the width.
pub(super) fn bar(class: &str, value: f64, requirement: Option<f64>, bar: Option<f64>) -> String {
    const WIDTH: f64 = 120.0;
    let at = |share: f64| share.clamp(0.0, 1.0) * WIDTH;
    let mut body = format!(
        "<rect class=\"track\" width=\"{WIDTH}\" height=\"8\" y=\"4\" rx=\"2\"/>\
         <rect class=\"{class}\" width=\"{:.1}\" height=\"8\" y=\"4\" rx=\"2\"/>",
        at(value).max(2.0)
    );
    for (class, bound) in [("requirement", requirement), ("goal", bar)] {
        if let Some(bound) = bound {
            let x = at(bound).clamp(1.0, WIDTH - 1.0);
            let _ = write!(body, "<path class=\"{class}\" d=\"M{x:.1} 0V16\"/>");
        }
    }
    format!("<svg class=\"bar\" viewBox=\"0 0 {WIDTH} 16\" aria-hidden=\"true\">{body}</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis { lo: 0.13, hi: 0.97 };
        let ticks = axis.ticks(4.0);
        assert_eq!(ticks.len(), 4, "{ticks:?}");
        for (tick, expected) in ticks.into_iter().zip([0.2, 0.4, 0.6, 0.8]) {
            assert!((tick - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn an_axis_of_nothing_or_of_one_value_has_extent() {
        for values in [vec![], vec![5.0], vec![0.0, 0.0], vec![f64::NAN]] {
            let axis = Axis::around(values);
            assert!(axis.hi > axis.lo);
            assert!(axis.share(5.0).is_finite());
        }
    }
}
