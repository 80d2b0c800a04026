-- JSON merge patch (RFC 7386), so that a patch is merged under the row's lock and two of them at once lose nothing of each other.

create function pgquorum.merge_patch(target jsonb, patch jsonb) returns jsonb
  language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
begin
  if jsonb_typeof(patch) is distinct from 'object' then return patch; end if;
  if jsonb_typeof(target) is distinct from 'object' then target := '{}'; end if;
  return coalesce((
    select jsonb_object_agg(coalesce(p.key, t.key), case
      when p.key is null then t.value
      when jsonb_typeof(p.value) = 'object' then pgquorum.merge_patch(t.value, p.value)
      else p.value end)
    from jsonb_each(target) t full join jsonb_each(patch) p on p.key = t.key
    where p.value is distinct from 'null'
  ), '{}');
end
$$;
comment on function pgquorum.merge_patch(jsonb, jsonb) is 'A JSON merge patch: objects are merged, null takes a field away, anything else replaces what is there.';
