//! Lineage as JSON: the Data and Runs as the API has them, and the arrows by id. It may be of any size.

use super::Form;
use crate::drawing::spool::{self, Piece, Spool};
use crate::terminal::Failure;
use knit_api::data::Data;
use knit_api::graph::{LineageEdge, LineageEnd};
use knit_api::run::Run;
use serde_json::Value;

/// A document that grows: `start`, `data`, `runs` and `edges`.
#[derive(Debug, Default)]
pub struct Json {
    /// The Data whose lineage it is.
    start: String,
    data: Spool,
    runs: Spool,
    edges: Spool,
}

impl Form for Json {
    type Data = Data;

    fn data(&mut self, data: Data) -> Result<(), Failure> {
        if self.start.is_empty() {
            data.id.as_str().clone_into(&mut self.start);
        }
        self.data.push_item(&data)
    }

    fn run(&mut self, run: Run) -> Result<(), Failure> {
        self.runs.push_item(&run)
    }

    /// Roots are left out: a Run without inputs has no arrow to it.
    fn edge(&mut self, edge: LineageEdge) -> Result<(), Failure> {
        if let LineageEnd::Root(_) = edge.from { Ok(()) } else { self.edges.push_item(&edge) }
    }
}

impl Json {
    /// Prints the whole document.
    pub fn print(self) -> Result<(), Failure> {
        spool::print(self.into_pieces()?)
    }

    fn into_pieces(self) -> Result<Vec<Piece>, Failure> {
        let mut pieces: Vec<Piece> = vec![format!("{{\n    \"start\": {},\n", Value::String(self.start)).into()];
        for (name, items, after) in
            [("data", self.data, ",\n"), ("runs", self.runs, ",\n"), ("edges", self.edges, "\n}\n")]
        {
            pieces.extend(items.into_member(name)?);
            pieces.push(after.into());
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use std::io::Read as _;

    #[test]
    fn arrows_name_their_ends_by_id() {
        let mut json = Json::default();
        sample().draw(&mut json).unwrap();
        let mut text = String::new();
        for piece in json.into_pieces().unwrap() {
            match piece {
                Piece::Spooled(mut piece) => drop(piece.read_to_string(&mut text).unwrap()),
                Piece::Text(piece) => text.push_str(&piece),
            }
        }
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["start"], "model");
        assert_eq!(value["data"][0]["knitId"], "model");
        assert_eq!(
            value["edges"][0],
            serde_json::json!({"from": {"runId": "train"}, "to": {"knitId": "model"}, "label": "/out"})
        );
        assert_eq!(value["edges"].as_array().unwrap().len(), 4);
        assert!(text.starts_with("{\n    \"start\": \"model\",\n    \"data\": [\n        {\n            \"knitId\""));
    }
}
