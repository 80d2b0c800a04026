/** What a custom resolver could not do, kept in the records that stay open: why, how often, and when it is asked again. Known to this node only. */
import type pg from 'pg';

const retryMinMs = 1000;
const retryMaxMs = 300_000;
const errorCharactersMax = 500;

/** As it stands in pgquorum.conflict. */
export interface ResolverAttempt {
  readonly at: string;
  readonly resolver: string;
  /** Of the resolver's text; null when there was none. */
  readonly version: string | null;
  readonly error: string;
  readonly tries: number;
  readonly retryInMs: number;
}

export interface FailedAttempt {
  readonly records: readonly string[];
  readonly resolver: string;
  readonly version: string | null;
  readonly error: string;
}

/** Another text of the resolver begins anew. */
export async function keepAttempt(
  client: pg.ClientBase,
  { records, resolver, version, error }: FailedAttempt,
): Promise<void> {
  await client.query(
    `with locked as (
       select c.id, case when c.attempt ->> 'resolver' = $2 and c.attempt ->> 'version' is not distinct from $3 then (c.attempt ->> 'tries')::integer else 0 end as before
       from pgquorum.conflict c where c.id = any($1::uuid[]) and c.state = 'open' order by c.id for update)
     update pgquorum.conflict c set attempt = jsonb_build_object('at', clock_timestamp(), 'resolver', $2::text, 'version', $3::text, 'error', $4::text,
       'tries', l.before + 1, 'retryInMs', least(${retryMaxMs}, ${retryMinMs} * 2 ^ least(l.before, 20))::integer)
     from locked l where c.id = l.id`,
    [records, resolver, version, error.replaceAll('\0', '').slice(0, errorCharactersMax)],
  );
}

/** That a record's resolver is to be asked now. Clocks may be set: a time that lies ahead counts like one that is past. */
export const attemptIsDueSql = (alias: string, resolver: string, version: string): string =>
  `(${alias}.attempt is null or ${alias}.attempt ->> 'resolver' <> ${resolver} or ${alias}.attempt ->> 'version' is distinct from ${version}
    or abs(extract(epoch from clock_timestamp() - (${alias}.attempt ->> 'at')::timestamptz)) * 1000 >= (${alias}.attempt ->> 'retryInMs')::integer)`;
