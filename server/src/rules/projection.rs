//! Which combinations of Data become Runs of a Plan, as a statement.
//!
//! A Run's identity is the ids of its Data in the order of the Plan's inputs, joined by commas: its
//! signature. A combination is missing when no Run of the Plan has its signature, whatever became of
//! that Run.

/// The statement that lists missing combinations of a Plan with `inputs` inputs, those with fresh Data
/// on input number `fresh`; both databases read it alike.
///
/// Parameters: `$1` the Plan, `$2` the most combinations to list, `$3`… the inputs in their order, and
/// last the fresh Data as a JSON list of one-element lists. Columns: one Data id per input.
pub fn missing_combinations(inputs: usize, fresh: usize) -> String {
    let each = |form: &dyn Fn(usize) -> String, between: &str| (0..inputs).map(form).collect::<Vec<_>>().join(between);
    let columns = each(&|i| format!("n{i}.data_id"), ", ");
    let signature = each(&|i| format!("n{i}.data_id"), " || ',' || ");
    let others: Vec<String> = (0..inputs)
        .filter(|i| *i != fresh)
        .map(|i| format!(" join nomination n{i} on n{i}.mount_id = ${}", i + 3))
        .collect();
    format!(
        "select {columns} from json_each(${list}) s \
         join nomination n{fresh} on n{fresh}.mount_id = ${input} and n{fresh}.data_id = s.value ->> 0{others} \
         where not exists (select 1 from run r where r.plan_id = $1 and r.signature = {signature}) limit $2",
        others = others.concat(),
        list = inputs + 3,
        input = fresh + 3,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_input_needs_no_join_with_others() {
        assert_eq!(
            missing_combinations(1, 0),
            "select n0.data_id from json_each($4) s \
             join nomination n0 on n0.mount_id = $3 and n0.data_id = s.value ->> 0 \
             where not exists (select 1 from run r where r.plan_id = $1 and r.signature = n0.data_id) limit $2"
        );
    }

    #[test]
    fn fresh_data_drive_and_the_signature_keeps_the_order_of_the_inputs() {
        assert_eq!(
            missing_combinations(3, 1),
            "select n0.data_id, n1.data_id, n2.data_id from json_each($6) s \
             join nomination n1 on n1.mount_id = $4 and n1.data_id = s.value ->> 0 \
             join nomination n0 on n0.mount_id = $3 join nomination n2 on n2.mount_id = $5 \
             where not exists (select 1 from run r where r.plan_id = $1 and r.signature = \
             n0.data_id || ',' || n1.data_id || ',' || n2.data_id) limit $2"
        );
    }
}
