//! Figures as pictures: bars of ratios, and lines over time.

use std::fmt::Write as _;

const BAR: f64 = 18.0;
const LABEL: f64 = 260.0;
const WIDTH: f64 = 560.0;

/// Horizontal bars, with a line at 1: what all are compared with.
pub fn bars(title: &str, rows: &[(String, f64, f64, f64)]) -> String {
    let most = rows.iter().map(|(_, _, _, greatest)| *greatest).fold(1.0, f64::max);
    let x = |value: f64| LABEL + value / most * WIDTH;
    let height = 40.0 + rows.len() as f64 * (BAR + 6.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{}</text>\n",
        LABEL + WIDTH + 60.0,
        escaped(title)
    );
    for (index, (name, middle, least, greatest)) in rows.iter().enumerate() {
        let y = 30.0 + index as f64 * (BAR + 6.0);
        let text = y + BAR * 0.7;
        let half = y + BAR / 2.0;
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{text:.0}\">{}</text>\
             <rect x=\"{LABEL}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"#4878a8\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{half:.0}\" y2=\"{half:.0}\" stroke=\"black\"/>\
             <text x=\"{:.1}\" y=\"{text:.0}\">{middle:.2}</text>",
            escaped(name),
            x(*middle) - LABEL,
            x(*least),
            x(*greatest),
            x(*greatest) + 6.0,
        );
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"26\" y2=\"{height:.0}\" stroke=\"#c03030\"/>\n</svg>",
        x(1.0)
    );
    svg
}

const LINE_HEIGHT: f64 = 320.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 40.0;
const COLOURS: [&str; 4] = ["#4878a8", "#c03030", "#50a050", "#8050a0"];

/// Lines over time, in seconds; both axes begin at 0.
pub fn lines(title: &str, series: &[(String, Vec<(f64, f64)>)]) -> String {
    let points = || series.iter().flat_map(|(_, points)| points);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(1.0, f64::max);
    let (longest, highest) = (most(|point| point.0), most(|point| point.1));
    let x = |seconds: f64| LEFT + seconds / longest * WIDTH;
    let y = |value: f64| TOP + LINE_HEIGHT - value / highest * LINE_HEIGHT;
    let (width, height) = (LEFT + WIDTH + 40.0, TOP + LINE_HEIGHT + 40.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    for part in 0..=4 {
        let share = f64::from(part) / 4.0;
        let (value, minutes) = (highest * share, longest * share / 60.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"8\" y=\"{2:.1}\">{value:.0}</text>\
             <text x=\"{1:.1}\" y=\"{3:.0}\">{minutes:.1} min</text>",
            LEFT + WIDTH,
            x(longest * share),
            y(value),
            height - 18.0,
        );
    }
    for (index, (name, points)) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let places: Vec<String> =
            points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>\
             <text x=\"{:.0}\" y=\"34\" fill=\"{colour}\">{}</text>",
            places.join(" "),
            LEFT + 140.0 * index as f64,
            escaped(name),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each_row_and_no_markup_of_theirs() {
        let svg = bars("a < b", &[("x & y".into(), 1.0, 0.5, 2.0)]);
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn a_line_for_each_series_within_the_picture() {
        let series = [
            ("a".to_owned(), vec![(0.0, 0.0), (60.0, 200.0)]),
            ("b & c".to_owned(), vec![(30.0, 100.0)]),
        ];
        let svg = lines("writes < s", &series);
        assert_eq!(svg.matches("<polyline").count(), 2);
        // From the corner below to the one above.
        assert!(svg.contains("points=\"90.0,360.0 650.0,40.0\""), "{svg}");
        assert!(svg.contains("points=\"370.0,200.0\"") && svg.contains("b &amp; c"), "{svg}");
        assert!(svg.contains("writes &lt; s") && svg.contains(">1.0 min<"), "{svg}");
        assert!(lines("nothing", &[]).ends_with("</svg>\n"));
    }
}
