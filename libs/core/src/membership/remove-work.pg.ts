/**
 * The job `remove-replica`: a node goes, either by handing over what it has, or as one that an operator has declared lost. Each step may be repeated; the checkpoint says which is next.
 *
 * Leaving. Invariant: its numbers are retired only when every other node has all that was ever written there, and every replica of a shard all that it had of that. So: its
 * shards are moved to others; it is marked on all nodes (gateways leave it out); its log is
 * applied everywhere while it is still written; closed to writes; then every node has applied its log up to the end, what it has of
 * shards that others hold is taken away there, which only goes where all replicas have it, and all of it is compared, and mended.
 *
 * Lost. What only some had of it will never be sent again, so the others compare themselves and merge whole states both ways; before, with Kafka, they read its topic
 * to the end. Its edges end first, or it could come back half-way. Shards that it held are filled anew elsewhere.
 *
 * Until the numbers are retired a cancelled job takes back what it did (take-back.pg.ts); from then on cancelling is refused. Of several jobs for one node the last one that marked
 * it goes on, and the others end.
 *
 * Then both: its numbers are retired everywhere, then slots and rows that concern it go, and on a node that left the schema. While that is done processes begin anew
 * without it; its address is kept in pgquorum.member until the end.
 */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import type { JobHandle, JobWork } from '../jobs/job.ts';
import type { Logger } from '../observability/logger.process.ts';
import { closeClient, connect, withConnection } from '../postgres/connect.pg.ts';
import { isUnreachable } from '../postgres/sqlstate.ts';
import { emptyNode } from '../shards/empty.pg.ts';
import { giveShards, takeBackMoves, type SpreadOptions } from '../shards/spread.pg.ts';
import type { PlacementSettings } from '../topology/shard-placement.ts';
import { withFoundingLocks, type ClusterNode } from '../topology/found.pg.ts';
import { closeNode } from './close.pg.ts';
import { compareAll, hasApplied, type HandOverOptions } from './hand-over.pg.ts';
import { leaveTables } from './left.pg.ts';
import { isRemoved, joinMembers, type MemberRow } from './members.ts';
import { readMembers } from './members.pg.ts';
import { removeReplicaJob, type RemoveArguments } from './replica-request.ts';
import { forgetNode, retireNumbers } from './retire.pg.ts';
import { checkMark, checkWanted, takeBackMark } from './take-back.pg.ts';

export interface RemoveWorkOptions {
  readonly cluster: string;
  readonly logger: Logger;
  readonly placement: PlacementSettings;
  readonly keysPerSecond: number;
  /** With Kafka: resolves when all of these nodes have applied the topic of the node to its end; rejects with `not_ready` when they do not get there. */
  readonly readToEnd?: (
    node: ClusterNode,
    survivors: readonly ClusterNode[],
    signal: AbortSignal,
  ) => Promise<void>;
  readonly deleteTopics?: (node: string) => Promise<readonly string[]>;
}

const steps = ['move shards', 'mark', 'hand over', 'close', 'retire', 'clean', 'done'] as const;
type Step = (typeof steps)[number];

interface Checkpoint {
  readonly next: Step;
}

const reachWithinMs = 5000;

export const removeReplicaWork =
  (options: RemoveWorkOptions): JobWork =>
  async (job, { home, nodes }) => {
    const removal = new Removal(options, job, { home, nodes });
    if (job.takesBack) return removal.takeBack();
    let next: Step = (job.checkpoint as Checkpoint | null)?.next ?? 'move shards';
    while (next !== 'done') {
      await removal.run(next);
      next = steps[steps.indexOf(next) + 1]!;
      const progress = { done: steps.indexOf(next), total: steps.length - 1, unit: 'steps' };
      const checkpoint: Checkpoint = { next };
      await (next === 'retire' ? job.reportLast(progress, checkpoint) : job.report(progress, checkpoint));
    }
    return removal.result;
  };

class Removal {
  readonly #options: RemoveWorkOptions;
  readonly #job: JobHandle;
  readonly #given: RemoveArguments;
  readonly #home: ClusterNode;
  readonly #nodes: readonly ClusterNode[];
  #topics: readonly string[] = [];

  constructor(
    options: RemoveWorkOptions,
    job: JobHandle,
    { home, nodes }: { readonly home: ClusterNode; readonly nodes: readonly ClusterNode[] },
  ) {
    this.#options = options;
    this.#job = job;
    this.#given = job.arguments as RemoveArguments;
    this.#home = home;
    this.#nodes = nodes;
  }

  get result(): object {
    const { node, lost } = this.#given;
    return { node, lost, ...(this.#topics.length === 0 ? {} : { deletedTopics: this.#topics }) };
  }

  run(step: Exclude<Step, 'done'>): Promise<void> {
    const { lost } = this.#given;
    switch (step) {
      case 'move shards':
        return lost ? Promise.resolve() : this.#moveShards();
      case 'mark':
        return this.#mark();
      case 'hand over':
        return lost ? this.#readToEnd() : this.#handOver();
      case 'close':
        return lost ? Promise.resolve() : this.#closed();
      case 'retire':
        return this.#retire();
      case 'clean':
        return this.#clean();
    }
  }

  /** The process may have begun anew without it already. */
  get #leaver(): ClusterNode | undefined {
    return this.#nodes.find(({ name }) => name === this.#given.node);
  }

  #known(): ClusterNode {
    const leaver = this.#leaver;
    if (leaver === undefined) throw new PgquorumError('node_not_found', `node ${this.#given.node}`);
    return leaver;
  }

  /**
   * Those that stay: all others, but for those that are declared lost as well: marked so, or not to be reached while their own removal as lost has been asked for. Two that are
   * lost would wait for each other otherwise, since each is marked on all that stay.
   */
  async #survivors(): Promise<ClusterNode[]> {
    const others = this.#nodes.filter(({ name }) => name !== this.#given.node);
    const looks = await Promise.all(others.map(lookAt));
    const seen = looks.filter((look) => look.kind === 'seen');
    const members = joinMembers(seen.map((look) => look.members));
    const isMarked = (name: string): boolean =>
      members.some((one) => one.name === name && !one.retired && one.change === 'lost');
    const stay: ClusterNode[] = [];
    for (const look of looks) {
      const { name } = look.node;
      if (isMarked(name)) continue;
      if (look.kind === 'seen') stay.push(look.node);
      else if (!seen.some(({ declared }) => declared.includes(name))) throw look.cause;
    }
    if (stay.length === 0) throw new PgquorumError('last_node', `node ${this.#given.node}`);
    return stay;
  }

  /** While it is a member like the others: of a shard that it alone holds it has to take writes meanwhile. */
  async #moveShards(): Promise<void> {
    const leaver = this.#known();
    await this.#survivors(); // the last one stays
    await giveShards(this.#spreading(this.#nodes), leaver.name);
  }

  #spreading(nodes: readonly ClusterNode[]): SpreadOptions {
    const { signal } = this.#job;
    return { ...this.#options, nodes, proposer: this.#home.number, signal };
  }

  async #mark(): Promise<void> {
    const { lost, node } = this.#given;
    const leaver = this.#known();
    if (lost) await refuseReachable(leaver);
    // Those of collections that were made since.
    else await this.#moveShards();
    const survivors = await this.#survivors();
    const marked = lost ? survivors : [...survivors, leaver];
    await withFoundingLocks(marked, async (clients) => {
      // Somebody else may have taken it back, if this runner froze.
      await on(this.#home, (client) => checkWanted(client, this.#job.id));
      const views = await Promise.all([...clients.values()].map(readMembers));
      checkAlone(this.#given, joinMembers(views), await joiningOf(clients));
      if (!lost) for (const client of clients.values()) await refuseShards(client, node);
      for (const client of clients.values())
        await client.query(
          'update pgquorum.member set change = $2, url = coalesce(url, $3), change_job = $4 where name = $1 and not spare and not retired',
          [node, lost ? 'lost' : 'leaving', leaver.address.url, this.#job.id],
        );
    });
  }

  /** It may not be marked yet, by this job or by any other. */
  async takeBack(): Promise<void> {
    const { lost, node } = this.#given;
    const survivors = await this.#survivors();
    const leaver = this.#leaver;
    // Shards that have moved stay where they are.
    if (!lost && leaver !== undefined) await takeBackMoves(this.#spreading(this.#nodes), node);
    const marked = lost || leaver === undefined ? survivors : [...survivors, leaver];
    await withFoundingLocks(marked, (clients) => takeBackMark(clients, { node, job: this.#job.id, lost }));
  }

  async #handOver(): Promise<void> {
    const leaver = this.#known();
    // While it is still written, so that users have to go elsewhere for a short time only.
    await hasApplied(leaver, await this.#survivors(), this.#job.signal);
    await this.#close(leaver);
  }

  async #closed(): Promise<void> {
    const leaver = this.#known();
    const survivors = await this.#survivors();
    const options = this.#handing([...survivors, leaver]);
    // Those that were made since, by a process that did not know yet.
    await this.#close(leaver);
    await hasApplied(leaver, survivors, options.signal);
    await emptyNode(leaver, survivors, options.signal);
    await compareAll(options);
  }

  async #close({ name, address }: ClusterNode): Promise<void> {
    const mark = { node: name, job: this.#job.id };
    await on({ name, address }, (client) =>
      closeNode(client, name, 'it is being removed', () => checkMark(client, mark)),
    );
  }

  async #readToEnd(): Promise<void> {
    await this.#options.readToEnd?.(this.#known(), await this.#survivors(), this.#job.signal);
  }

  async #retire(): Promise<void> {
    const { node: name, lost } = this.#given;
    const { cluster } = this.#options;
    const survivors = await this.#survivors();
    await withFoundingLocks(survivors, async (clients) => {
      for (const client of clients.values()) await checkMark(client, { node: name, job: this.#job.id });
      for (const client of clients.values()) await retireNumbers(client, { name, lost });
    });
    for (const node of survivors) await on(node, (client) => forgetNode(client, cluster, { name, lost }));
  }

  async #clean(): Promise<void> {
    const { node: name, lost, topics } = this.#given;
    const { cluster } = this.#options;
    const survivors = await this.#survivors();
    if (lost) {
      if (survivors.length > 1) await compareAll(this.#handing(survivors));
      // What it held is filled anew elsewhere, from those who held it too.
      await giveShards(this.#spreading(survivors), name);
    } else {
      const url = await urlOf(name, survivors);
      if (url !== null) await on({ name, address: { url } }, (client) => leaveTables(client, cluster, name));
    }
    if (topics === 'delete') this.#topics = (await this.#options.deleteTopics?.(name)) ?? [];
    for (const node of survivors)
      await on(node, async (client) => {
        // What a process that knew it still has written meanwhile.
        await forgetNode(client, cluster, { name, lost });
        await client.query('update pgquorum.member set url = null where name = $1 and retired', [name]);
      });
  }

  #handing(nodes: readonly ClusterNode[]): HandOverOptions {
    const { cluster, logger } = this.#options;
    return { cluster, logger, nodes, signal: this.#job.signal };
  }
}

const on = <T>(
  node: { readonly name: string; readonly address: { readonly url: string } },
  work: (client: pg.Client) => Promise<T>,
): Promise<T> =>
  withConnection(
    { name: node.name, url: node.address.url },
    { application: 'pgquorum membership', answerWithinMs: 120_000 },
    work,
  );

const membersOf = (node: ClusterNode): Promise<MemberRow[]> => on(node, readMembers);

type Look =
  | {
      readonly kind: 'seen';
      readonly node: ClusterNode;
      readonly members: readonly MemberRow[];
      /** Whose removal as lost has been asked for here. */
      readonly declared: readonly string[];
    }
  | { readonly kind: 'unreachable'; readonly node: ClusterNode; readonly cause: unknown };

async function lookAt(node: ClusterNode): Promise<Look> {
  try {
    return await on(node, async (client) => {
      const members = await readMembers(client);
      const { rows } = await client.query<{ name: string }>(
        `select j.arguments ->> 'node' as name from pgquorum.job j where j.kind = $1 and j.state in ('waiting', 'running') and not j.cancel_requested and (j.arguments ->> 'lost')::boolean`,
        [removeReplicaJob],
      );
      return { kind: 'seen', node, members, declared: rows.map(({ name }) => name) };
    });
  } catch (cause) {
    if (isUnreachable(cause)) return { kind: 'unreachable', node, cause };
    throw cause;
  }
}

/** Null once it is cleaned up. */
async function urlOf(name: string, survivors: readonly ClusterNode[]): Promise<string | null> {
  const members = joinMembers(await Promise.all(survivors.map(membersOf)));
  return members.find((one) => one.name === name && one.url !== null)?.url ?? null;
}

/** Whoever answers is not lost. */
async function refuseReachable({ name, address }: ClusterNode): Promise<void> {
  try {
    const client = await connect(address, {
      application: 'pgquorum membership',
      connectTimeoutMs: reachWithinMs,
      answerWithinMs: reachWithinMs,
    });
    await closeClient(client);
  } catch (cause) {
    if (isUnreachable(cause)) return;
    throw cause;
  }
  throw new PgquorumError('node_reachable', `node ${name}`);
}

async function joiningOf(clients: ReadonlyMap<string, pg.Client>): Promise<string[]> {
  const found: string[] = [];
  for (const [name, client] of clients) {
    const { rows } = await client.query('select from pgquorum.node where joining_since is not null');
    if (rows.length > 0) found.push(name);
  }
  return found;
}

/** A collection that was made since its shards were moved has some on it: they are moved when this is done again. */
async function refuseShards(client: pg.Client, node: string): Promise<void> {
  const placed = await client.query<{ collection: string }>(
    'select m.collection from pgquorum.shard_map m where $1 = any(m.replicas) or $1 = any(m.next) limit 1',
    [node],
  );
  if (placed.rows[0] !== undefined)
    throw new PgquorumError(
      'stale_shard_map',
      `node ${node} was given shards of ${placed.rows[0].collection} meanwhile`,
    );
}

/** Under the founding locks. Nodes that are lost go at the same time, and one that joins may be removed. */
function checkAlone(
  { node, lost }: RemoveArguments,
  members: readonly MemberRow[],
  joining: readonly string[],
): void {
  if (isRemoved(node, members)) throw new PgquorumError('node_removed', `node ${node}`);
  const going = members.find(
    ({ name, change, retired }) =>
      !retired && name !== node && change !== null && !(lost && change === 'lost'),
  );
  const other = joining.find((name) => name !== node);
  if (going !== undefined || other !== undefined)
    throw new PgquorumError(
      'membership_busy',
      going === undefined ? `node ${other} is joining` : `node ${going.name} is being removed`,
    );
}
