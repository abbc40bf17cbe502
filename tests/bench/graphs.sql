-- Two lineages for tests/bench/run, behind the server's back: a chain of Data, each made from the one before, and
-- a fan, one Data from which all others are made. @N@ is how many Runs each has.
--
-- Ids are numbers in the shape of ids; Data of the chain begin with c, those of the fan with f.
begin immediate;
insert into tag (id, key, value) values ('bench-chain', 'bench', 'chain'), ('bench-fan', 'bench', 'fan');
insert into plan (id, digest, active, image_repository, image_tag) values
  ('bench-chain', 'bench-chain', 1, 'bench/chain', 'v1'), ('bench-fan', 'bench-fan', 1, 'bench/fan', 'v1');
insert into mount (id, plan_id, kind, ord, path, want_tags) values
  ('bench-chain-in', 'bench-chain', 'input', 0, '/in/data', 1),
  ('bench-chain-out', 'bench-chain', 'output', 0, '/out/data', 1),
  ('bench-fan-in', 'bench-fan', 'input', 0, '/in/data', 1),
  ('bench-fan-out', 'bench-fan', 'output', 0, '/out/data', 1);
-- Two uploads to begin with, and the Runs.
with recursive n(i) as (select 0 union all select i + 1 from n where i < @N@), kind(k) as (values ('c'), ('f'))
insert into run (id, plan_id, signature, status, updated_at, due_at, exit_code, exit_message)
select format('%sa%06d-0000-4000-8000-%012d', k, i, i),
  case when i = 0 then '00000000-0000-4000-8000-000000000001' when k = 'c' then 'bench-chain' else 'bench-fan' end,
  case when i = 0 then null
    else format('%sd%06d-0000-4000-8000-%012d', k, iif(k = 'c', i - 1, 0), iif(k = 'c', i - 1, 0)) || ',' || i end,
  'done', 1700000000000000 + i, 1700000000000000 + i, 0, '' from n, kind;
with recursive n(i) as (select 0 union all select i + 1 from n where i < @N@), kind(k) as (values ('c'), ('f'))
insert into data (id, run_id, mount_id, volume, ready, made_at, digest, entries, bytes)
select format('%sd%06d-0000-4000-8000-%012d', k, i, i), format('%sa%06d-0000-4000-8000-%012d', k, i, i),
  case when i = 0 then '00000000-0000-4000-8000-000000000011' when k = 'c' then 'bench-chain-out' else 'bench-fan-out' end,
  format('bench-%s%d', k, i), 1, 1700000000000 + i, 'd', 1, 1 from n, kind;
with recursive n(i) as (select 0 union all select i + 1 from n where i < @N@), kind(k) as (values ('c'), ('f'))
insert into data_tag (tag_id, data_id)
select iif(k = 'c', 'bench-chain', 'bench-fan'), format('%sd%06d-0000-4000-8000-%012d', k, i, i) from n, kind;
with recursive n(i) as (select 1 union all select i + 1 from n where i < @N@), kind(k) as (values ('c'), ('f'))
insert into run_input (run_id, mount_id, data_id)
select format('%sa%06d-0000-4000-8000-%012d', k, i, i), iif(k = 'c', 'bench-chain-in', 'bench-fan-in'),
  format('%sd%06d-0000-4000-8000-%012d', k, iif(k = 'c', i - 1, 0), iif(k = 'c', i - 1, 0)) from n, kind;
commit;
analyze;
