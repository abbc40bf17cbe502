-- The first schema. Versions 1 to 3 were Knitfab's; no other table of its is taken over here.
--
-- One text for SQLite and PostgreSQL; {wr} is "without rowid" on SQLite and nothing on PostgreSQL.
-- Ids, digests and names of statuses are text; instants are microseconds since 1970 (made_at and
-- want_time: milliseconds, the precision of knit#timestamp); yes or no is 1 or 0; lists that nobody
-- searches are JSON text.

-- id: digest of key and value, so that long values are never indexed and both sides know it beforehand.
create table tag (
  id text not null primary key,
  key text not null,
  value text not null
);
create index tag_key on tag (key);

-- Built-in Plans have a name and no image, all others an image and no name.
create table plan (
  id text not null primary key,
  name text,
  digest text not null,
  active smallint not null,
  projected_at bigint not null default 0,
  image_repository text,
  image_tag text,
  entrypoint text not null default '[]',
  args text not null default '[]',
  on_node text not null default '{}',
  resources text not null default '{}',
  service_account text not null default '',
  annotations text not null default '[]',
  constraint plan_name unique (name),
  constraint plan_digest unique (digest),
  constraint plan_active check (active in (0, 1)),
  constraint plan_has_image_or_name check (
    (name is null) = (image_repository is not null) and (image_repository is null) = (image_tag is null))
);

-- Inputs, outputs and logs of Plans. anchor_tag is the rarest user tag of an input when the Plan came:
-- matching starts from it. A poor choice costs time, never correctness.
create table mount (
  id text not null primary key,
  plan_id text not null,
  kind text not null,
  ord smallint not null,
  path text not null,
  want_data_id text,
  want_time bigint,
  want_tags smallint not null default 0,
  anchor_tag text,
  constraint mount_plan foreign key (plan_id) references plan (id),
  constraint mount_anchor_tag foreign key (anchor_tag) references tag (id),
  constraint mount_place unique (plan_id, kind, ord),
  constraint mount_kind check (kind in ('input', 'output', 'log'))
);
create index mount_anchor on mount (anchor_tag) where anchor_tag is not null;
create index mount_want_data on mount (want_data_id) where want_data_id is not null;
create index mount_want_time on mount (want_time) where want_time is not null;

create table mount_tag (
  mount_id text not null,
  tag_id text not null,
  primary key (mount_id, tag_id),
  constraint mount_tag_mount foreign key (mount_id) references mount (id),
  constraint mount_tag_tag foreign key (tag_id) references tag (id)
) {wr};
create index mount_tag_by_tag on mount_tag (tag_id, mount_id);

-- signature: the ids of the Data in the order of the inputs; null for Runs of built-in Plans, which no
-- loop ever claims. attempt grows with each claim and fences off whoever lost one.
create table run (
  id text not null primary key,
  plan_id text not null,
  signature text,
  status text not null,
  updated_at bigint not null,
  due_at bigint not null,
  lease_until bigint not null default 0,
  lease_owner text,
  attempt bigint not null default 0,
  failures bigint not null default 0,
  exit_code smallint,
  exit_message text,
  reason text,
  image_digest text,
  constraint run_plan foreign key (plan_id) references plan (id),
  constraint run_once unique (plan_id, signature),
  constraint run_status check (status in ('deactivated', 'waiting', 'ready', 'starting', 'running',
    'completing', 'aborting', 'done', 'failed', 'invalidated')),
  constraint run_exit_code check (exit_code between 0 and 255),
  constraint run_exit check ((exit_code is null) = (exit_message is null))
);
create index run_due on run (status, due_at, id)
  where signature is not null and status in ('waiting', 'ready', 'starting', 'running', 'completing', 'aborting');
create index run_leased on run (lease_until) where lease_until > 0;
create index run_live on run (plan_id, status) where status not in ('done', 'failed', 'invalidated');
create index run_by_status on run (status, updated_at, id);
create index run_by_time on run (updated_at, id);

-- ready: 1 once its Run is done. made_at: when its Run ended. rev only grows: updating it is the row lock.
create table data (
  id text not null primary key,
  run_id text not null,
  mount_id text not null,
  volume text not null,
  ready smallint not null,
  made_at bigint,
  rev bigint not null default 0,
  digest text,
  entries bigint,
  bytes bigint,
  constraint data_run foreign key (run_id) references run (id),
  constraint data_mount foreign key (mount_id) references mount (id),
  constraint data_volume unique (volume),
  constraint data_ready check (ready in (0, 1))
);
create index data_by_run on data (run_id);
create index data_by_time on data (made_at, id);

create table data_tag (
  tag_id text not null,
  data_id text not null,
  primary key (tag_id, data_id),
  constraint data_tag_tag foreign key (tag_id) references tag (id),
  constraint data_tag_data foreign key (data_id) references data (id)
) {wr};
create index data_tag_by_data on data_tag (data_id, tag_id);

create table run_input (
  run_id text not null,
  mount_id text not null,
  data_id text not null,
  primary key (run_id, mount_id),
  constraint run_input_run foreign key (run_id) references run (id),
  constraint run_input_mount foreign key (mount_id) references mount (id),
  constraint run_input_data foreign key (data_id) references data (id)
) {wr};
create index run_input_by_data on run_input (data_id, run_id);

-- The fact that a Data fits an input: always equal to the view matching.
create table nomination (
  mount_id text not null,
  data_id text not null,
  primary key (mount_id, data_id),
  constraint nomination_mount foreign key (mount_id) references mount (id),
  constraint nomination_data foreign key (data_id) references data (id)
) {wr};
create index nomination_by_data on nomination (data_id, mount_id);

-- Something new to project: a queue. Rows are only added, each with a fresh lit, and only projection
-- takes them away. One whose nomination is gone again does nothing, so Data may go without regard to it.
create table spark (
  mount_id text not null,
  data_id text not null,
  lit text not null,
  primary key (mount_id, data_id, lit),
  constraint spark_mount foreign key (mount_id) references mount (id)
) {wr};

-- Volumes that nothing refers to any more, to be removed.
create table garbage (
  volume text not null primary key,
  since bigint not null
);
create index garbage_by_time on garbage (since, volume);

-- The rule of matching, once. An equality on data_id or on mount_id reaches into all three branches,
-- and the counted subquery cannot be turned into a join of everything with everything.
create view matching as
  select d.id as data_id, m.id as mount_id
  from mount m
  join data_tag a on a.tag_id = m.anchor_tag
  join data d on d.id = a.data_id
  where m.kind = 'input' and d.ready = 1
    and (m.want_data_id is null or m.want_data_id = d.id)
    and (m.want_time is null or m.want_time = d.made_at)
    and (select count(*) from mount_tag mt join data_tag x on x.tag_id = mt.tag_id and x.data_id = a.data_id
         where mt.mount_id = m.id) = m.want_tags
  union all
  select d.id, m.id
  from mount m join data d on d.id = m.want_data_id
  where m.kind = 'input' and m.anchor_tag is null and d.ready = 1
    and (m.want_time is null or m.want_time = d.made_at)
  union all
  select d.id, m.id
  from mount m join data d on d.made_at = m.want_time
  where m.kind = 'input' and m.anchor_tag is null and m.want_data_id is null and d.ready = 1;

-- Which output or log can feed which input: it has all user tags of an input without system tags.
create view feeding as
  select o.id as output_id, i.id as input_id
  from mount i
  join mount_tag a on a.tag_id = i.anchor_tag
  join mount o on o.id = a.mount_id
  where i.kind = 'input' and i.want_data_id is null and i.want_time is null and o.kind in ('output', 'log')
    and (select count(*) from mount_tag it join mount_tag ot on ot.tag_id = it.tag_id and ot.mount_id = a.mount_id
         where it.mount_id = i.id) = i.want_tags;

insert into plan (id, name, digest, active) values
  ('00000000-0000-4000-8000-000000000001', 'knit#uploaded', 'knit#uploaded', 1),
  ('00000000-0000-4000-8000-000000000002', 'knit#imported', 'knit#imported', 1);
insert into mount (id, plan_id, kind, ord, path) values
  ('00000000-0000-4000-8000-000000000011', '00000000-0000-4000-8000-000000000001', 'output', 0, '/upload'),
  ('00000000-0000-4000-8000-000000000012', '00000000-0000-4000-8000-000000000002', 'output', 0, '/imported');
