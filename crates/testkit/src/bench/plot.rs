//! The same as bars, a picture per figure.

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
}
