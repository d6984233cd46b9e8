//! A line chart as SVG, with a logarithmic x axis; readable on light and dark pages.

/// A line of a chart.
pub struct Line {
    pub name: String,
    /// The same for an operator and its floor, whose line is dashed.
    pub color: usize,
    pub is_dashed: bool,
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 48.0;

/// Colors that people with red-green color blindness can distinguish, on white and on near-black.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:15px}\
    .grid{stroke:#d1d9e0}.c0{stroke:#0969da;fill:#0969da}.c1{stroke:#bc4c00;fill:#bc4c00}\
    @media(prefers-color-scheme:dark){text{fill:#d1d7e0}.grid{stroke:#3d444d}\
    .c0{stroke:#4493f8;fill:#4493f8}.c1{stroke:#f0883e;fill:#f0883e}}polyline.c0,polyline.c1{fill:none;stroke-width:2}\
    .dashed{stroke-dasharray:6 4}";

/// The chart; `y` is the quantity with its unit.
pub fn chart(title: &str, y: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (least, most) =
        points().fold((f64::MAX, f64::MIN), |(least, most), (x, _)| (least.min(*x), most.max(*x)));
    let step = nice(points().fold(0.0_f64, |top, (_, y)| top.max(*y)) / 5.0);
    let top = step * (points().fold(0.0_f64, |top, (_, y)| top.max(*y)) / step).ceil().max(1.0);
    let at_x = |x: f64| {
        let span = (most / least).ln();
        let part = if span > 0.0 { (x / least).ln() / span } else { 0.5 };
        LEFT + part * (WIDTH - LEFT - RIGHT)
    };
    let at_y = |y: f64| HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n<text class=\"title\" x=\"{LEFT}\" y=\"20\">{title}</text>\n\
         <text x=\"{LEFT}\" y=\"{}\">{y}</text>\n",
        TOP - 8.0
    );
    let mut value = 0.0;
    while value <= top * 1.001 {
        let (y, end) = (at_y(value), WIDTH - RIGHT);
        svg += &format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 8.0,
            y + 4.0,
            (value * 100.0).round() / 100.0
        );
        value += step;
    }
    let mut sizes: Vec<f64> = points().map(|(x, _)| *x).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    for size in sizes {
        let (x, y) = (at_x(size), HEIGHT - BOTTOM + 20.0);
        svg += &format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{size}</text>\n");
    }
    let (x, y) = (f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 8.0);
    svg += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">objects</text>\n");
    for (number, line) in lines.iter().enumerate() {
        svg += &drawn(line, &|(x, y)| (at_x(x), at_y(y)));
        svg += &legend(line, TOP + 8.0 + crate::figures::float(number) * 22.0);
    }
    svg + "</svg>\n"
}

fn drawn(line: &Line, place: &dyn Fn((f64, f64)) -> (f64, f64)) -> String {
    let places: Vec<(f64, f64)> = line.points.iter().map(|point| place(*point)).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let mut drawn = format!("<polyline class=\"{}\" points=\"{}\"/>\n", class(line), path.join(" "));
    for (x, y) in places {
        drawn += &format!("<circle class=\"c{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>\n", line.color);
    }
    drawn
}

fn legend(line: &Line, y: f64) -> String {
    let x = WIDTH - RIGHT + 16.0;
    format!(
        "<polyline class=\"{}\" points=\"{x},{y} {},{y}\"/>\n<text x=\"{}\" y=\"{}\">{}</text>\n",
        class(line),
        x + 26.0,
        x + 34.0,
        y + 4.0,
        line.name
    )
}

fn class(line: &Line) -> String {
    format!("c{}{}", line.color, if line.is_dashed { " dashed" } else { "" })
}

/// The smallest of 1, 2, 5, 10, 20, … that is not smaller than `step`.
fn nice(step: f64) -> f64 {
    let scale = 10_f64.powf(step.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|it| it * scale).find(|it| *it >= step).unwrap_or(10.0 * scale)
}
