//! What must never be in the database once all is done: statements that count it.

/// What is counted, and how. Each must count nothing.
pub(crate) const WRONG: &[(&str, &str)] = &[
    (
        "a match without its nomination",
        "select count(*) from (select mount_id, data_id from matching \
         except select mount_id, data_id from nomination) x",
    ),
    (
        "a nomination without its match",
        "select count(*) from (select mount_id, data_id from nomination \
         except select mount_id, data_id from matching) x",
    ),
    (
        "two Runs of one combination",
        "select count(*) from (select 1 from run where signature is not null group by plan_id, signature \
         having count(*) > 1) x",
    ),
    (
        "a missing Run of a Plan with one input",
        "select count(*) from mount m join nomination n on n.mount_id = m.id \
         where not exists (select 1 from mount o where o.plan_id = m.plan_id and o.kind = 'input' and o.id <> m.id) \
         and not exists (select 1 from run r where r.plan_id = m.plan_id and r.signature = n.data_id)",
    ),
    (
        "a missing Run of a Plan with two inputs",
        "select count(*) from mount a join mount b on b.plan_id = a.plan_id and b.kind = 'input' and b.ord = 1 \
         join nomination x on x.mount_id = a.id join nomination y on y.mount_id = b.id \
         where a.kind = 'input' and a.ord = 0 and not exists (select 1 from run r where r.plan_id = a.plan_id \
           and r.signature = x.data_id || ',' || y.data_id)",
    ),
    (
        "a Run whose assignments are not its signature",
        "select count(*) from run r where r.signature is not null and r.signature <> \
         (select i.data_id from run_input i join mount m on m.id = i.mount_id where i.run_id = r.id and m.ord = 0) \
         || coalesce((select ',' || i.data_id from run_input i join mount m on m.id = i.mount_id \
            where i.run_id = r.id and m.ord = 1), '')",
    ),
    (
        "a Run with other outputs than its Plan",
        "select count(*) from run r where (select count(*) from data d where d.run_id = r.id) <> \
         case when r.status = 'invalidated' then 0 else \
         (select count(*) from mount m where m.plan_id = r.plan_id and m.kind <> 'input') end",
    ),
    (
        "a Data that is not as usable as its Run is done",
        "select count(*) from data d join run r on r.id = d.run_id \
         where (d.ready = 1) <> (r.status = 'done') or (d.made_at is null) <> (r.status not in ('done', 'failed'))",
    ),
    ("garbage that is in use", "select count(*) from garbage g join data d on d.volume = g.volume"),
    ("a spark", "select count(*) from spark"),
];
