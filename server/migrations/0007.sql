-- Whether a combination is a Run already is asked for very many at once. Asked by Plan and signature, a database
-- whose figures are older than most Runs of the Plan looks through all of them each time, by another index on Plans.
-- Asked by both in one, there is one way.
create index run_by_combination on run ((plan_id || ':' || signature));
