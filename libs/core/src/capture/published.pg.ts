/**
 * Whether everything is published that has to be. A server skips the changes of what is not, with a warning in its log at most, and goes on: so
 * what was missing even for a moment has to be found while the stream runs, or the loss would never show.
 */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import { publicationName } from '../topology/names.ts';

/** How often a running stream looks. */
export const publishedCheckMs = 2000;

/** By MVCC snapshot alone: functions that look names up would see a table dropped that the snapshot still shows as a collection. */
export const publishedSql = `
  with wanted as (
    select c.name, c.table_schema as schema, c.table_name as relation from pgquorum.collection c
    union all select c.name, 'pgquorum', 'version_' || c.name from pgquorum.collection c
    union all select null, 'pgquorum', name from unnest(array['heartbeat', 'conflict']) name
  )
  select p.oid::text as publication, w.schema, w.relation as name, w.schema || '.' || w.relation as relation, t.oid::text as table_oid, r.oid::text as member
  from wanted w left join pg_publication p on p.pubname = '${publicationName}'
    left join pg_namespace n on n.nspname = w.schema left join pg_class t on t.relnamespace = n.oid and t.relname = w.relation
    left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = t.oid`;

export class PublishedCheck {
  private readonly client: pg.Client;
  private readonly slot: string;
  private readonly publication: number | null;
  /** Oid of a table -> oid of its membership: one that was taken out and added again has another. */
  private members = new Map<string, string>();
  private atMs = 0;

  constructor(client: pg.Client, options: { readonly slot: string; readonly publication: number | null }) {
    this.client = client;
    this.slot = options.slot;
    this.publication = options.publication;
  }

  isDue(nowMs: number): boolean {
    return nowMs - this.atMs >= publishedCheckMs;
  }

  /** Throws `position_lost` when changes may have been skipped. */
  async run(nowMs: number): Promise<void> {
    const lost = (why: string) =>
      new PgquorumError('position_lost', `slot ${this.slot} ${why}: what was written meanwhile was skipped`);
    const { rows } = await this.client.query<{
      publication: string | null;
      relation: string;
      table_oid: string;
      member: string | null;
    }>(publishedSql);
    this.atMs = nowMs;
    const members = new Map<string, string>();
    for (const { publication, relation, table_oid, member } of rows) {
      if (publication === null) throw lost(`has no publication ${publicationName} any more`);
      if (this.publication !== null && Number(publication) !== this.publication)
        throw lost(`was made for another publication ${publicationName}, which was dropped and made anew`);
      if (member === null)
        throw lost(`does not get ${relation}, which is not in publication ${publicationName} any more`);
      if ((this.members.get(table_oid) ?? member) !== member)
        throw lost(`did not get ${relation} for a while`);
      members.set(table_oid, member);
    }
    this.members = members;
  }
}
