-- What cancelling a job does: most just end; some take back what they have done, which is work like any other; and beyond a point some can not be cancelled.

alter table pgquorum.job add column on_cancel text not null default 'ends';
alter table pgquorum.job add constraint job_on_cancel check (on_cancel in ('ends', 'takes back', 'refused'));
comment on column pgquorum.job.on_cancel is 'ends: as it is; takes back: it is run once more, to undo what it has done; refused: it has begun what can not be undone.';

alter table pgquorum.member add column change_job uuid;
comment on column pgquorum.member.change_job is 'The job that changes it: the last one that was asked for. Another one neither goes on nor takes anything back.';
