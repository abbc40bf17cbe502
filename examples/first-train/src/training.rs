//! How the model is learnt: stochastic gradient descent on the cross-entropy.

use crate::digits::Digit;
use crate::model::Model;
use crate::random::Random;

/// What a training depends on beside its images.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often every image is looked at.
    pub epochs: usize,
    /// How far one image moves the weights in the first epoch; later ones move them less.
    pub rate: f64,
    /// Of the order in which the images are looked at.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { epochs: 30, rate: 0.1, seed: 1 }
    }
}

/// How an epoch went.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// Counted from 1.
    pub number: usize,
    /// Mean cross-entropy in nats, each image judged just before it was learnt from.
    pub loss: f64,
}

/// Learns from `digits`; `report` is told of every epoch, and its first error ends the training.
pub fn train<E>(
    digits: &[Digit],
    settings: Settings,
    mut report: impl FnMut(Epoch) -> Result<(), E>,
) -> Result<Model, E> {
    let mut model = Model::default();
    let mut random = Random::new(settings.seed);
    let mut order: Vec<usize> = (0..digits.len()).collect();
    for number in 1..=settings.epochs {
        let rate = settings.rate / (1.0 + (number - 1) as f64 / 10.0);
        random.shuffle(&mut order);
        let total: f64 = order.iter().map(|&position| learn(&mut model, &digits[position], rate)).sum();
        report(Epoch { number, loss: total / digits.len() as f64 })?;
    }
    Ok(model)
}

/// Moves the weights against the gradient for one image; the loss before that is returned.
fn learn(model: &mut Model, digit: &Digit, rate: f64) -> f64 {
    let probabilities = model.probabilities(&digit.pixels);
    for (class, (row, probability)) in model.rows.iter_mut().zip(probabilities).enumerate() {
        let error = probability - if class == digit.label { 1.0 } else { 0.0 };
        row.bias -= rate * error;
        for (weight, pixel) in row.weights.iter_mut().zip(&digit.pixels) {
            *weight -= rate * error * pixel;
        }
    }
    -probabilities[digit.label].max(f64::MIN_POSITIVE).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits::PIXELS;
    use std::convert::Infallible;

    /// Two digits that differ in one half of the image.
    fn halves() -> Vec<Digit> {
        let half = |label: usize, black: std::ops::Range<usize>| {
            let pixels = std::array::from_fn(|position| if black.contains(&position) { 1.0 } else { 0.0 });
            Digit { pixels, label }
        };
        vec![half(4, 0..PIXELS / 2), half(9, PIXELS / 2..PIXELS)]
    }

    #[test]
    fn the_loss_falls_and_the_images_are_told_apart() {
        let mut losses = Vec::new();
        let model = train(&halves(), Settings::default(), |epoch| {
            losses.push(epoch.loss);
            Ok::<_, Infallible>(())
        })
        .unwrap();
        assert_eq!(losses.len(), Settings::default().epochs);
        assert!(losses.last() < losses.first(), "{losses:?}");
        for digit in halves() {
            assert_eq!(model.classify(&digit.pixels), digit.label);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_model() {
        let model =
            |seed| train(&halves(), Settings { seed, ..Settings::default() }, |_| Ok::<_, Infallible>(())).unwrap();
        assert_eq!(model(1), model(1));
        assert_ne!(model(1), model(2));
    }

    #[test]
    fn a_report_that_fails_ends_the_training() {
        let mut told = 0;
        let result = train(&halves(), Settings::default(), |epoch| {
            told += 1;
            if epoch.number == 3 { Err("gone") } else { Ok(()) }
        });
        assert_eq!((result.unwrap_err(), told), ("gone", 3));
    }
}
