//! Nominations: which Data fits which input. They are the view `matching` made into rows, in the same
//! transaction as what changed it; each new one leaves a spark for projection.

use super::engine::{Db, Tx, args, batch};
use crate::clock;
use knit_api::id::DataId;

pub(super) const NOMINATE_DATA: &str = "insert into nomination (mount_id, data_id) \
    select m.mount_id, m.data_id from matching m where m.data_id = $1 order by 1 \
    on conflict do nothing returning mount_id";
pub(super) const WITHDRAW_DATA: &str = "delete from nomination where data_id = $1 \
    and mount_id not in (select m.mount_id from matching m where m.data_id = $1)";
/// For one input at a time: PostgreSQL does not push a list of inputs into the view.
pub(super) const NOMINATE_INPUT: &str = "insert into nomination (mount_id, data_id) \
    select m.mount_id, m.data_id from matching m where m.mount_id = $1 on conflict do nothing";
const SPARK_DATA: &str = "insert into spark (mount_id, data_id, lit) \
    select j.value ->> 0, cast($1 as text), cast($2 as text) from json_each($3) j where true";
const SPARK_INPUT: &str = "insert into spark (mount_id, data_id, lit) \
    select n.mount_id, n.data_id, cast($2 as text) from nomination n where n.mount_id = $1";

/// Nominates a Data for every input that it fits by now. The nomination is the fact and the spark follows
/// from it, never the other way round.
pub(super) async fn nominate_data(tx: &mut Tx, data: &DataId) -> Db<()> {
    let rows = tx.rows(NOMINATE_DATA, args![data.as_str()]).await?;
    let inputs: Vec<String> = rows.iter().map(|row| row.text(0)).collect::<Db<_>>()?;
    if !inputs.is_empty() {
        let inputs = batch(inputs.iter().map(|input| [input.as_str()]));
        tx.exec(SPARK_DATA, args![data.as_str(), clock::new_id(), &inputs]).await?;
    }
    Ok(())
}

/// After a change of tags: withdraws what fits no more, then nominates.
pub(super) async fn refresh_data(tx: &mut Tx, data: &DataId) -> Db<()> {
    tx.exec(WITHDRAW_DATA, args![data.as_str()]).await?;
    nominate_data(tx, data).await
}

/// Nominates all Data that fit a new input.
pub(super) async fn nominate_input(tx: &mut Tx, input: &str) -> Db<()> {
    if tx.exec(NOMINATE_INPUT, args![input]).await? > 0 {
        tx.exec(SPARK_INPUT, args![input, clock::new_id()]).await?;
    }
    Ok(())
}
