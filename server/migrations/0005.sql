-- Lists in pages, and looking things up by how they begin.
--
-- {wr} as before; {bytes} makes PostgreSQL compare texts byte by byte, as SQLite always does: only then the texts
-- with one beginning stand together. {element} is a text in a JSON list. A line behind {postgres} is for
-- PostgreSQL alone: on SQLite the primary key is in that order.

-- The Runs of a Plan in the order of their last change, status by status.
create index run_by_plan on run (plan_id, status, updated_at, id);

-- Data that cannot be used: in the making (no time yet) or failed.
create index data_unready on data (made_at, id) where ready = 0;

create index plan_by_image on plan (image_repository, image_tag, id);

-- The annotations of Plans, to be searched. head: the first 200 characters of the pair, since no index takes
-- texts of any length.
create table plan_annotation (
  plan_id text not null,
  head text not null,
  pair text not null,
  constraint plan_annotation_plan foreign key (plan_id) references plan (id)
);
create index plan_annotation_by_head on plan_annotation (head {bytes}, plan_id);
create index plan_annotation_by_plan on plan_annotation (plan_id);
insert into plan_annotation (plan_id, head, pair)
  select p.id, substr({element}, 1, 200), {element} from plan p, json_each(p.annotations) j;

create index tag_by_head on tag (substr(key || ':' || value, 1, 200) {bytes});
{postgres} create index data_by_head on data (id {bytes});
{postgres} create index plan_by_head on plan (id {bytes});
{postgres} create index run_by_head on run (id {bytes});
