-- What PostgreSQL lacks: SQLite's json_each over a text. The planner inlines it; the built-in
-- json_each(json) is another function and stays as it is.
create or replace function json_each(list text) returns table (key text, value jsonb)
  language sql immutable parallel safe rows 20
  as $$ select (n - 1)::text, element from jsonb_array_elements(list::jsonb) with ordinality e(element, n) $$;
