-- Changes in formats for others, in topics of their own.
create table pgquorum.published (
  format text not null,
  stream integer not null,
  generation text not null,
  position bigint not null,
  constraint published_pkey primary key (format, stream)
) with (fillfactor = 50);
comment on table pgquorum.published is 'How far the changes in this node''s topic have been published again in another format. Written once they are durable there.';
