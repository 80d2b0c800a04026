/**
 * Parked changes of a table whose shape has changed since: when origin and target have the same columns again, the rows that were kept are of neither's
 * shape and never will be. So the states that the origin has now are copied instead, which have seen what was parked; what the target is then seen to
 * have durably is no longer parked.
 */
import { keyText } from '../changelog/change.ts';
import { baseTypeNameSql } from '../collections/type-name.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import type { NodeAddress } from '../config/settings.ts';
import type { Clock } from '../versioning/clock.ts';
import { covers } from '../versioning/clock.ts';
import { copyKeys } from '../verify/copy-states.pg.ts';
import { CollectionStatements } from './collection-statements.pg.ts';
import type { EdgeOptions } from './edge.pg.ts';
import { removeParked, type ParkedChange } from './parking.pg.ts';
import type { ApplySession } from './session.pg.ts';
import { readVersionsSql } from './statements.ts';

/** How often the tables are compared while a collection waits. */
const compareEveryMs = 2000;
const answerWithinMs = 5000;

const shapeSql = `select coalesce(jsonb_object_agg(a.attname, ${baseTypeNameSql('t')} || a.attgenerated::text), '{}')::text as shape
  from pgquorum.collection c join pg_attribute a on a.attrelid = to_regclass(format('%I.%I', c.table_schema, c.table_name)) join pg_type t on t.oid = a.atttypid
  where c.name = $1 and a.attnum > 0 and not a.attisdropped`;

export class DriftRecovery {
  readonly #options: EdgeOptions;
  readonly #comparedMs = new Map<string, number>();

  constructor(options: EdgeOptions) {
    this.#options = options;
  }

  /** Whether all of these, of one collection, are done with. */
  async recover(
    session: ApplySession,
    parked: readonly ParkedChange[],
    signal: AbortSignal,
  ): Promise<boolean> {
    const { collection } = parked[0]!.change;
    if (!(await this.#sameShape(collection))) return false;
    const keys = new Map(parked.map(({ change }) => [keyText(change.key), change.key]));
    const { cluster, origin, target, logger } = this.#options;
    for await (const step of copyKeys({ cluster, collection, source: origin, target, logger, signal }, [
      ...keys.values(),
    ]))
      if (step.refused.length > 0)
        logger.warn(
          { collection, reason: step.refused[0]!.reason },
          'a state is refused that stands for parked changes',
        );
    const seen = await this.#seen(session, collection, [...keys.values()]);
    const done = parked.filter(
      ({ change }) =>
        change.kind === 'write' && covers(seen.get(keyText(change.key)) ?? {}, change.version.dot),
    );
    if (done.length > 0) {
      await removeParked(
        session,
        done.map(({ id }) => id),
      );
      logger.info(
        { collection, changes: done.length },
        'parked changes of an older table were replaced by what their origin has now',
      );
    }
    return done.length === parked.length;
  }

  async #sameShape(collection: string): Promise<boolean> {
    const now = performance.now();
    if (now - (this.#comparedMs.get(collection) ?? -Infinity) < compareEveryMs) return false;
    this.#comparedMs.set(collection, now);
    const [origin, target] = await Promise.all([
      this.#shape(this.#options.origin.address, collection),
      this.#shape(this.#options.target.address, collection),
    ]);
    if (origin !== target) return false;
    this.#comparedMs.delete(collection);
    return true;
  }

  async #shape(node: NodeAddress, collection: string): Promise<string> {
    return withConnection(node, { application: 'pgquorum drift', answerWithinMs }, async (client) => {
      return (await client.query<{ shape: string }>(shapeSql, [collection])).rows[0]!.shape;
    });
  }

  async #seen(
    session: ApplySession,
    collection: string,
    keys: readonly (readonly string[])[],
  ): Promise<Map<string, Clock>> {
    session.catalog.forget(collection);
    const table = await session.catalog.table(collection);
    const { rows } = await session.client.query<unknown[]>({
      text: readVersionsSql(table),
      values: new CollectionStatements(session, table).keyArrays(keys),
      rowMode: 'array',
    });
    const width = table.key.length;
    return new Map(
      rows.map((row) => [
        keyText(row.slice(0, width) as string[]),
        JSON.parse((row[width + 6] ?? row[width + 5]) as string) as Clock,
      ]),
    );
  }
}
