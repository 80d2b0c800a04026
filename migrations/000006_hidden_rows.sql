-- Row-level security that is forced on a table applies to its owner too, as whom the triggers and the replicator look whether a row is there.

create function pgquorum.refuse_hidden(collection text) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'row-level security hides rows of collection % from the owner of its table', collection using errcode = '42501',
    hint = 'What is hidden would be taken for deleted on all masters. Do not force row-level security, or give the owner bypassrls. For all but truncate a policy that shows it all rows does too.';
end
$$;
comment on function pgquorum.refuse_hidden(text) is 'Refuses a write whose row the table''s owner can not see.';
