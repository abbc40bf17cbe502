//! What is learnt: multinomial logistic regression, one row of weights per digit, and its text form.
//!
//! The text form is a line that names the form, then one line per digit: its bias and its 64 weights.

use crate::digits::{CLASSES, PIXELS, for_each_line};
use crate::problem::Problem;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Name of the file in a model's folder.
pub const FILE: &str = "model.txt";
const HEADING: &str = "multinomial logistic regression, 10 digits, bias and 64 weights each, form 1";
/// A bias and 64 weights, each printed with less than 30 characters.
const LONGEST_LINE: u64 = 4096;

/// How much one digit is spoken for: by a bias and by each pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Counts whatever the image.
    pub bias: f64,
    /// Counts as much as the pixel is black.
    pub weights: [f64; PIXELS],
}

/// A classifier of digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// One row per digit.
    pub rows: [Row; CLASSES],
}

impl Default for Model {
    /// A model that holds every digit for equally likely.
    fn default() -> Self {
        Self { rows: [Row { bias: 0.0, weights: [0.0; PIXELS] }; CLASSES] }
    }
}

impl Model {
    /// How likely each digit is for this image; the sum is 1.
    pub fn probabilities(&self, pixels: &[f64; PIXELS]) -> [f64; CLASSES] {
        let scores = self
            .rows
            .map(|row| row.bias + row.weights.iter().zip(pixels).map(|(weight, pixel)| weight * pixel).sum::<f64>());
        // Without the largest score taken off, the exponential of a sure model would be infinite.
        let largest = scores.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let unscaled = scores.map(|score| (score - largest).exp());
        let total: f64 = unscaled.iter().sum();
        unscaled.map(|one| one / total)
    }

    /// The most likely digit; of equals the smallest.
    pub fn classify(&self, pixels: &[f64; PIXELS]) -> usize {
        let probabilities = self.probabilities(pixels);
        (1..CLASSES).fold(0, |best, digit| if probabilities[digit] > probabilities[best] { digit } else { best })
    }

    /// The text form; reading it gives exactly the same model.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADING}\n");
        for row in &self.rows {
            write!(text, "{}", row.bias).expect("writing into a String cannot fail");
            for weight in &row.weights {
                write!(text, " {weight}").expect("writing into a String cannot fail");
            }
            text.push('\n');
        }
        text
    }

    /// Reads the text form from the file at `path`.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let file = File::open(path).map_err(|cause| Problem::reading(path, cause))?;
        let mut model = Self::default();
        let mut lines = 0;
        for_each_line(BufReader::new(file), LONGEST_LINE, path, |line, text| {
            lines = line;
            match line {
                1 if text == HEADING => Ok(()),
                1 => Err(format!("is not \"{HEADING}\": is this a model of this program?")),
                line => match model.rows.get_mut(line - 2) {
                    Some(row) => parse(text).map(|parsed| *row = parsed),
                    None => Err(format!("is one more than the {CLASSES} digits")),
                },
            }
            .map_err(|what| Problem::in_line(path, line, what))
        })?;
        if lines < CLASSES + 1 {
            let what = format!("ends after line {lines} of {}", CLASSES + 1);
            return Err(Problem::TooShort { path: path.to_owned(), what });
        }
        Ok(model)
    }
}

/// One line: the bias and 64 weights, separated by spaces.
fn parse(text: &str) -> Result<Row, String> {
    let fields = text.split_whitespace().count();
    if fields != PIXELS + 1 {
        return Err(format!("has {fields} numbers instead of {}: a bias and 64 weights", PIXELS + 1));
    }
    let mut numbers = text.split_whitespace().map(|field| {
        field
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .ok_or_else(|| format!("{field:?} is not a number"))
    });
    let mut next = || numbers.next().unwrap_or_else(|| Err("ends early".to_owned()));
    let mut row = Row { bias: next()?, weights: [0.0; PIXELS] };
    for weight in &mut row.weights {
        *weight = next()?;
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn any_model() -> Model {
        let mut random = Random::new(5);
        let mut number = || random.below(1_000_000) as f64 / 7e4 - 7.0;
        let mut model = Model::default();
        for row in &mut model.rows {
            row.bias = number();
            row.weights = std::array::from_fn(|_| number());
        }
        model
    }

    fn read_text(text: &str) -> Result<Model, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, text).unwrap();
        Model::read(&path).map_err(|problem| problem.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn a_model_that_was_written_is_read_back_exactly() {
        let model = any_model();
        assert_eq!(read_text(&model.to_text()).unwrap(), model);
    }

    #[test]
    fn a_cut_model_is_refused_wherever_it_is_cut() {
        let text = any_model().to_text();
        let last_line_without_its_end = text.len() - 1;
        for end in (0..last_line_without_its_end - 20).step_by(97) {
            assert!(read_text(&text[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_model_is_named_by_line_and_fault() {
        let text = any_model().to_text();
        let heading = text.lines().next().unwrap();
        assert!(read_text("hello\n").unwrap_err().starts_with("model.txt, line 1: is not \"multinomial"));
        assert_eq!(
            read_text(&format!("{heading}\n1 2 3\n")).unwrap_err(),
            "model.txt, line 2: has 3 numbers instead of 65: a bias and 64 weights"
        );
        assert_eq!(
            read_text(&format!("{heading}\n{}\n", vec!["inf"; 65].join(" "))).unwrap_err(),
            "model.txt, line 2: \"inf\" is not a number"
        );
        assert_eq!(read_text(&format!("{heading}\n")).unwrap_err(), "model.txt: ends after line 1 of 11");
        assert_eq!(read_text(&format!("{text}\n")).unwrap_err(), "model.txt, line 12: is one more than the 10 digits");
    }

    #[test]
    fn probabilities_add_up_to_one_even_for_a_very_sure_model() {
        let mut model = Model::default();
        model.rows[3].bias = 1e6;
        let probabilities = model.probabilities(&[1.0; PIXELS]);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(model.classify(&[1.0; PIXELS]), 3);
    }
}
