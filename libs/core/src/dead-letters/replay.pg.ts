/**
 * Applies a dead letter on its node, with the merge that the change log uses: it takes its place among what was written since, whatever that is. The
 * change and the removal of the letter are one transaction: a change is applied and gone, or kept; two replays, or a replay and a discard, do not both
 * happen. A change that fails again stays a letter, with the new reason.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Failure } from '../apply/failure.ts';
import { failureOf } from '../apply/failure-of.pg.ts';
import type { ApplyCounts } from '../apply/outcomes.ts';
import { ApplySession } from '../apply/session.pg.ts';
import { stampRows } from '../apply/stamp.pg.ts';
import { applyTransaction } from '../apply/transaction.pg.ts';
import type { DataChange } from '../changelog/change.ts';
import { keyText } from '../changelog/change.ts';
import { changeCodec } from '../changelog/schema.files.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Logger } from '../observability/logger.process.ts';
import type { Node } from '../topology/nodes.pg.ts';
import { replayedSql, triedSql } from './events.ts';
import { reached, type DeadLetterStore } from './store.pg.ts';

const lockTimeoutMs = 500;
const triesMax = 4;
const pauseMs = 50;

export interface ReplayResult {
  readonly id: string;
  readonly node: string;
  readonly collection: string;
  readonly key: string;
  /** `written`: the key is now what the change says, or has merged it; `seen`: what the key is has seen the change; `conflict`: it lost against a concurrent write, and is kept as a conflict record. */
  readonly outcome: 'written' | 'seen' | 'conflict';
}

export class DeadLetterReplay {
  readonly #store: DeadLetterStore;
  readonly #logger: Logger;

  constructor({ store, logger }: { readonly store: DeadLetterStore; readonly logger: Logger }) {
    this.#store = store;
    this.#logger = logger;
  }

  async replay(id: string, by: string): Promise<ReplayResult> {
    const { node, number } = this.#store.place(id);
    return reached(node, async () => {
      const session = await ApplySession.open({
        node: node.address,
        application: 'pgquorum replay',
        originName: null,
      });
      try {
        const change = await readChange(session, number);
        if (change === null) throw notThere(id);
        const counts = await this.#apply(session, { id, number, by, node, change });
        const { collection } = change;
        return { id, node: node.name, collection, key: keyText(change.key), outcome: outcomeOf(counts) };
      } finally {
        await session.close();
      }
    });
  }

  async #apply(session: ApplySession, letter: Letter): Promise<ApplyCounts> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await applyTransaction(session, {
          changes: [letter.change],
          progress: null,
          lockTimeoutMs,
          also: ({ client }) => client.query(replayedSql, [letter.number, letter.by]),
        });
      } catch (cause) {
        const failure = await failureOf(session, cause);
        if (failure.kind === 'fatal' || failure.kind === 'connection') throw cause;
        if ((await readChange(session, letter.number)) === null) throw notThere(letter.id);
        if (failure.kind === 'unversioned') await stampRows(letter.node.address, failure.rows, this.#logger);
        else if (failure.kind !== 'retry' || tries >= triesMax) return this.#refuse(session, letter, failure);
        else await sleep(tries * pauseMs);
      }
    }
  }

  /** The reason stands in the letter; an answer may be read by whoever must not see rows. */
  async #refuse(
    session: ApplySession,
    { id, number }: Letter,
    failure: Extract<Failure, { code: string }>,
  ): Promise<never> {
    await session.client.query(triedSql, [number, failure.code, failure.sqlstate, failure.message]);
    throw new PgquorumError(
      'replay_failed',
      `dead letter ${id}: ${failure.kind === 'retry' ? 'what it would change is in use' : 'the node refuses the change'}${failure.sqlstate === null ? '' : ` (SQLSTATE ${failure.sqlstate})`}`,
      {
        extra: {
          failure: failure.kind,
          ...(failure.sqlstate === null ? {} : { sqlstate: failure.sqlstate }),
        },
      },
    );
  }
}

interface Letter {
  readonly id: string;
  readonly number: string;
  readonly by: string;
  readonly node: Node;
  readonly change: DataChange;
}

const notThere = (id: string): PgquorumError =>
  new PgquorumError('dead_letter_not_found', `dead letter ${id}`);

function outcomeOf({ written, conflicts }: ApplyCounts): ReplayResult['outcome'] {
  if (written > 0) return 'written';
  return conflicts > 0 ? 'conflict' : 'seen';
}

async function readChange({ client }: ApplySession, number: string): Promise<DataChange | null> {
  const { rows } = await client.query<{ payload: string }>(
    `select encode(payload, 'base64') as payload from pgquorum.dead_letter where id = $1::bigint`,
    [number],
  );
  const [row] = rows;
  if (row === undefined) return null;
  const { change } = changeCodec().decode(Buffer.from(row.payload, 'base64'), 'application/protobuf');
  if (change.kind === 'heartbeat')
    throw new PgquorumError('invariant_broken', `dead letter ${number} is a heartbeat`);
  return change;
}
