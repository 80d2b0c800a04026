-- Members that come and go while everything runs: every process finds them in what the nodes know of one another.

alter table pgquorum.member add column url text;
alter table pgquorum.member add column weight double precision not null default 1;
alter table pgquorum.member add column change text;
alter table pgquorum.member add constraint member_change check (change in ('leaving', 'lost'));
comment on column pgquorum.member.url is 'Where processes whose list does not have this node find it: those that were added while the cluster ran. It holds a password; nobody but pgquorum''s own role may read it.';
comment on column pgquorum.member.change is 'leaving: it is being removed; lost: an operator has declared that it will not come back. Then its numbers are retired.';

-- What a job needs and nobody may read: shown by no route, gone when the job has ended, however it did.
alter table pgquorum.job add column secret jsonb;
comment on column pgquorum.job.secret is 'Arguments that hold passwords; gone when the job has ended.';

create function pgquorum.forget_secret() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  new.secret := null;
  return new;
end
$$;
comment on function pgquorum.forget_secret() is 'Takes the secret of a job that has ended away.';
revoke execute on function pgquorum.forget_secret() from public;
create trigger job_secret before update on pgquorum.job for each row when (new.secret is not null and new.state in ('done', 'failed', 'cancelled')) execute function pgquorum.forget_secret();

-- Made a trigger of the version tables of a node that leaves, or that was declared lost and is back: nothing is versioned there that nobody would carry. As a
-- trigger, it holds for transactions with an older snapshot too. Apply goes on, so that its sessions end in order.
create function pgquorum.refuse_write() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('pgquorum.apply', true) = 'on' and session_user = tg_argv[0] then return null; end if;
  raise exception 'this node is no master of the cluster any more: %', tg_argv[1] using errcode = 'PQ013', hint = 'Write to another master.';
end
$$;
comment on function pgquorum.refuse_write() is 'Refuses writes of users on a node whose changes nobody would carry.';
revoke execute on function pgquorum.refuse_write() from public;
