//! How well a model does on images it has not learnt from.

use crate::digits::{CLASSES, Digit};
use crate::model::Model;
use std::fmt::Write as _;

/// Name of the file in a metrics folder.
pub const FILE: &str = "metrics.json";

/// What a model said of a set of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// `confusion[shown][said]`: how many images of one digit were taken for which.
    pub confusion: [[usize; CLASSES]; CLASSES],
}

impl Evaluation {
    /// Asks `model` about every one of `digits`.
    pub fn of(model: &Model, digits: &[Digit]) -> Self {
        let mut confusion = [[0; CLASSES]; CLASSES];
        for digit in digits {
            confusion[digit.label][model.classify(&digit.pixels)] += 1;
        }
        Self { confusion }
    }

    /// How many images there were.
    pub fn images(&self) -> usize {
        self.confusion.iter().flatten().sum()
    }

    /// How many of them were recognised.
    pub fn correct(&self) -> usize {
        (0..CLASSES).map(|digit| self.confusion[digit][digit]).sum()
    }

    /// The recognised share; 0 when there were no images.
    pub fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.images().max(1) as f64
    }

    /// The content of `metrics.json`.
    pub fn to_json(&self) -> String {
        let row = |counts: &[usize; CLASSES]| format!("    {counts:?}");
        let rows: Vec<String> = self.confusion.iter().map(row).collect();
        format!(
            "{{\n  \"accuracy\": {:.4},\n  \"correct\": {},\n  \"images\": {},\n  \"confusion\": [\n{}\n  ]\n}}\n",
            self.accuracy(),
            self.correct(),
            self.images(),
            rows.join(",\n")
        )
    }

    /// A table for the log: a row per digit shown, a column per digit said.
    pub fn to_table(&self) -> String {
        let mut table = "shown \\ said".to_owned();
        for said in 0..CLASSES {
            write!(table, "{said:>5}").expect("writing into a String cannot fail");
        }
        for (shown, counts) in self.confusion.iter().enumerate() {
            write!(table, "\n{shown:>12}").expect("writing into a String cannot fail");
            for count in counts {
                write!(table, "{count:>5}").expect("writing into a String cannot fail");
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits::PIXELS;

    /// A model that takes everything for a 3, asked about a 3, a 3 and a 5.
    fn evaluation() -> Evaluation {
        let mut model = Model::default();
        model.rows[3].bias = 1.0;
        let digit = |label| Digit { pixels: [0.5; PIXELS], label };
        Evaluation::of(&model, &[digit(3), digit(3), digit(5)])
    }

    #[test]
    fn images_are_counted_by_what_they_show_and_what_was_said() {
        let evaluation = evaluation();
        assert_eq!((evaluation.confusion[3][3], evaluation.confusion[5][3]), (2, 1));
        assert_eq!((evaluation.correct(), evaluation.images()), (2, 3));
    }

    #[test]
    fn the_metrics_are_json_with_the_accuracy_on_a_line_of_its_own() {
        let json = evaluation().to_json();
        assert!(json.contains("\n  \"accuracy\": 0.6667,\n"), "{json}");
        assert!(json.contains("\n    [0, 0, 0, 1, 0, 0, 0, 0, 0, 0],\n"), "{json}");
        assert_eq!(json.matches('[').count(), json.matches(']').count());
    }

    #[test]
    fn the_table_has_a_row_and_a_column_for_every_digit() {
        let table = evaluation().to_table();
        assert_eq!(table.lines().count(), CLASSES + 1);
        assert!(table.lines().all(|line| line.len() == 12 + 5 * CLASSES), "{table}");
    }

    #[test]
    fn no_images_give_no_accuracy_rather_than_no_number() {
        assert!(Evaluation::of(&Model::default(), &[]).accuracy().abs() < f64::EPSILON);
    }
}
