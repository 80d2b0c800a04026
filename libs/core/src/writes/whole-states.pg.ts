/**
 * Whole states of keys as a gateway takes them from the node where they were just written, or read: row, version and open losers of one snapshot, durable, from a
 * database that was found to be itself (capture/reread.pg.ts and topology/confirmed.pg.ts have the reasons).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { OriginCatalog, type PublishedCollection } from '../capture/catalog.pg.ts';
import { readStates, waitFlushed } from '../capture/reread.pg.ts';
import type { KeyTexts, WriteChange } from '../changelog/change.ts';
import type { CollectionTable } from '../collections/definition.ts';
import { PgquorumError } from '../errors/error.ts';
import { timeOver, type Deadline } from '../postgres/deadline.ts';
import { isStaleDefinition } from '../postgres/request-error.ts';
import { remainingMs } from '../postgres/session.pg.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { confirmedSql } from '../topology/confirmed.pg.ts';
import type { Node } from '../topology/nodes.pg.ts';
import { dotText } from '../versioning/version.ts';
import { statement } from './statements.ts';
import { believing } from './believing.pg.ts';
import type { Belief } from './replica-sets.pg.ts';
import { run } from './transaction.pg.ts';

export interface StatesWanted {
  readonly table: CollectionTable;
  readonly keys: readonly KeyTexts[];
  /** Names of versions that are known to be durable: a state that still has one of them needs no waiting for the disk. */
  readonly durable: ReadonlySet<string>;
  readonly deadline: Deadline;
  /** What the node has to agree with while it is read. */
  readonly belief: Belief | null;
}

interface Known {
  readonly source: PublishedCollection;
  readonly attributes: number;
}

const confirmedPollMs = 50;
const confirmedPollMaxMs = 400;
const definitionTries = 3;
/** A column has another type now, which its output function does not take. */
const undefinedFunction = '42883';

/** Asked after the states: a column that came or went before them shows in it. Numbers of columns are never used again. */
const factsStatement = statement(
  `select (select r.relnatts from pg_class r where r.oid = $1) as attributes,
     (select ${confirmedSql} from pgquorum.node n) as confirmed`,
);

export class WholeStates {
  readonly #known = new WeakMap<Node, Map<string, Known>>();

  /** By key text. Left out are keys that have never had a version there, and those whose row went behind the triggers' back. */
  async read(node: Node, wanted: StatesWanted): Promise<Map<string, WriteChange>> {
    const { deadline } = wanted;
    for (let pauseMs = confirmedPollMs; ; pauseMs = Math.min(2 * pauseMs, confirmedPollMaxMs)) {
      const read = await node.run(deadline, (client) => this.#readOn(client, node, wanted));
      if (read !== null) return read;
      // Without a connection: others have use for it.
      if (remainingMs(deadline) < pauseMs) throw timeOver(deadline);
      await sleep(pauseMs, undefined, { signal: deadline.signal }).catch(() => undefined); // the next reading meets it
    }
  }

  /** Null while it is not sure that the database is itself. */
  async #readOn(
    client: pg.PoolClient,
    node: Node,
    { table, keys, durable, belief }: StatesWanted,
  ): Promise<Map<string, WriteChange> | null> {
    for (let tries = 1; ;) {
      const known = await this.#knownOf(client, node, table.collection);
      const read = await believing(client, belief, () => [
        readStates(client, known.source, keys, {
          requests: 'none',
          nameOf: (text) => statement(text).name,
        }),
        run<{ attributes: number | null; confirmed: boolean }>(client, factsStatement, [
          known.source.tableOid,
        ]),
      ]).catch((cause: unknown) => {
        if (tries < definitionTries && (isStaleDefinition(cause) || sqlStateOf(cause) === undefinedFunction))
          return null;
        throw cause;
      });
      if (read === null || read[1].rows[0]!.attributes !== known.attributes) {
        this.#known.get(node)?.delete(table.collection);
        tries += 1;
        if (tries > definitionTries)
          throw new PgquorumError('schema_drift', `the table of ${table.collection} is being altered`);
      } else {
        if (!read[1].rows[0]!.confirmed) return null;
        if (![...read[0].values()].every((state) => isDurable(state, durable))) await waitFlushed(client);
        return withRows(read[0], known.source);
      }
    }
  }

  async #knownOf(client: pg.PoolClient, node: Node, collection: string): Promise<Known> {
    let ofNode = this.#known.get(node);
    if (ofNode === undefined) this.#known.set(node, (ofNode = new Map()));
    const known = ofNode.get(collection);
    if (known !== undefined) return known;
    // Before the columns: one that is added in between makes the number wrong, and so is noticed.
    const { rows } = await client.query<{ attributes: number }>(
      `select r.relnatts as attributes from pgquorum.collection c join pg_class r on r.oid = to_regclass(format('%I.%I', c.table_schema, c.table_name)) where c.name = $1`,
      [collection],
    );
    const catalog = new OriginCatalog(client);
    await catalog.reload();
    const source = catalog.find(collection);
    if (source === undefined) throw new PgquorumError('collection_not_found', `collection ${collection}`);
    const fresh = { source, attributes: rows[0]?.attributes ?? -1 };
    ofNode.set(collection, fresh);
    return fresh;
  }
}

/** An operation on CRDT fields leaves the version's name as it is: what came after it from the same node may not be durable. What others wrote came durably. */
function isDurable({ version: { dot, clock }, seen }: WriteChange, durable: ReadonlySet<string>): boolean {
  return durable.has(dotText(dot)) && (seen ?? clock)[dot.origin as number] === dot.counter;
}

function withRows(
  states: Map<string, WriteChange>,
  { image }: PublishedCollection,
): Map<string, WriteChange> {
  for (const [key, { row }] of states)
    if (row !== null && image.columns.some((column, at) => column.isKey && row.values[at] === null))
      states.delete(key);
  return states;
}
