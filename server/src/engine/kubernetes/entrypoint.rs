//! What an image executes by itself: main is started through `knitd wrap`, so that its entrypoint must be known
//! where the Plan does not say it.

use super::objects::worker::MainCommand;
use super::{Shared, unbuilt};
use crate::engine::{EngineError, Work};

impl Shared {
    pub(super) async fn main_command(&self, work: &Work) -> Result<MainCommand, EngineError> {
        if work.entrypoint.is_empty() {
            return unbuilt("reading what an image executes");
        }
        Ok(MainCommand { entrypoint: work.entrypoint.clone(), args: work.args.clone() })
    }
}
