/** The statements of a dead letter's life, each with its event: in one statement, so that neither is without the other. */

const body = (happened: string, further = ''): string =>
  `jsonb_build_object('happened', '${happened}', 'letter', d.id::text, 'origin', d.origin, 'collection', d.collection, 'key', d.key, 'sqlstate', d.sqlstate${further})`;

const tell = (happened: string, from: string, further = ''): string =>
  `insert into pgquorum.event (type, body) select 'dead-letter', ${body(happened, further)} from ${from} d`;

/** A change that is delivered again is the same letter. */
export const burySql = `with d as (
    insert into pgquorum.dead_letter (origin, log, stream, position, collection, key, sqlstate, message, payload, change, code, commit_time)
    values ($1, $2, 0, $3, $4, $5, $6, $7, $8, $9, $10, to_timestamp($11::float8 / 1000))
    on conflict (origin, change, sha256(payload)) do nothing returning id, origin, collection, key, sqlstate)
  ${tell('buried', 'd')}`;

const takeSql = `delete from pgquorum.dead_letter where id = $1::bigint returning id, origin, collection, key, sqlstate`;

/** Fails by dividing by zero when the letter is gone: somebody else has replayed or discarded it. */
export const replayedSql = `with d as (${takeSql}), told as (${tell('replayed', 'd', `, 'by', $2::text`)})
  select 1 / count(*) from d`;

export const discardedSql = `with d as (${takeSql}), told as (${tell('discarded', 'd', `, 'by', $2::text`)})
  select * from d`;

/** After a replay that failed. */
export const triedSql = `update pgquorum.dead_letter set tries = tries + 1, tried_at = clock_timestamp(), code = $2, sqlstate = $3, message = $4 where id = $1::bigint`;
