/**
 * The job `add-replica`: a database becomes a node while everything runs. Looked at first, then registered by the founding of all nodes (topology/found.pg.ts), which makes
 * its slots, collections and edges; from then on every process finds its address in pgquorum.member and takes it in, and the replicator that serves it fills it. Each
 * step may be repeated: until the checkpoint is kept the registration is done again, which finds what is there.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import type { JobHandle, JobWork } from '../jobs/job.ts';
import { withConnection } from '../postgres/connect.pg.ts';
import type { PreflightNeeds } from '../postgres/preflight-facts.ts';
import { foundCluster } from '../topology/found.pg.ts';
import { checkJoinable } from './joinable.pg.ts';
import type { MemberRow } from './members.ts';
import { readMembers } from './members.pg.ts';
import type { AddArguments, AddSecret } from './replica-request.ts';

interface Checkpoint {
  readonly number: number;
}

const lookEveryMs = 500;
/** Processes look for members about once a second; then a replicator begins to serve the node. */
const servedWithinMs = 30_000;

export const addReplicaWork =
  (needs: PreflightNeeds): JobWork =>
  async (job, { nodes }) => {
    const { name, zone, weight, allow } = job.arguments as AddArguments;
    const joiner: NodeAddress = { name, zone, weight, url: (job.secret as AddSecret).url };
    const known = nodes.filter((node) => node.name !== name);
    let checkpoint = job.checkpoint as Checkpoint | null;
    if (checkpoint === null) {
      await checkJoinable({ joiner, nodes: known, needs, allow });
      const found = await foundCluster({
        ...needs,
        nodes: [...known.map(({ address }) => address), joiner],
        adding: name,
        check: (members, joining) => checkAlone(joiner, members, joining),
      });
      checkpoint = { number: found.find((node) => node.name === name)!.number };
      await job.report({ done: 0, unit: 'keys' }, checkpoint);
    }
    const { number } = checkpoint;
    await withConnection(joiner, { application: 'pgquorum joining', answerWithinMs: 30_000 }, (client) =>
      joined(client, { name, number }, job),
    );
    return { node: name, number };
  };

/** Under the founding locks: nodes join and leave one after the other. */
function checkAlone(
  { name, url }: NodeAddress,
  members: readonly MemberRow[],
  joining: readonly string[],
): void {
  const going = members.find(({ change, retired }) => change !== null && !retired);
  if (going !== undefined)
    throw new PgquorumError(
      'membership_busy',
      `node ${going.name} is ${going.change === 'lost' ? 'taken out as lost' : 'leaving'}`,
    );
  const other = joining.find((one) => one !== name);
  if (other !== undefined) throw new PgquorumError('membership_busy', `node ${other} is joining`);
  const there = members.filter((one) => one.name === name && !one.retired);
  // This very job may have registered it, and was cut off.
  if (there.length > 0 && !there.some((one) => one.url === url))
    throw new PgquorumError('node_exists', `node ${name}`);
}

async function joined(
  client: pg.Client,
  node: { readonly name: string; readonly number: number },
  job: JobHandle,
): Promise<void> {
  const until = performance.now() + servedWithinMs;
  const most = { done: 0, total: 0 };
  for (let served = false; ;) {
    const { rows } = await client.query<{ joining: boolean; done: number; total: number; beat: boolean }>(
      `select n.joining_since is not null as joining, coalesce(r.done, 0)::float8 as done, coalesce(r.total, 0)::float8 as total,
         exists (select from pgquorum.heartbeat h where h.number = n.number and h.at > n.joining_since + interval '1 second' and h.at > clock_timestamp() - interval '30 seconds') as beat
       from pgquorum.node n left join (select sum(copied) as done, sum(total) as total from pgquorum.resync) r on true`,
    );
    if (
      rows[0] === undefined ||
      (await readMembers(client)).some((one) => one.number === node.number && one.retired)
    )
      throw new PgquorumError('node_removed', `node ${node.name} was removed while it joined`);
    const { joining, done, total, beat } = rows[0];
    if (!joining) return;
    served ||= beat;
    if (!served && performance.now() > until)
      throw new PgquorumError(
        'not_ready',
        `no replicator serves node ${node.name}: start one with PGQUORUM_REPLICATOR_NODES=${node.name}, or one that serves all nodes`,
      );
    // Edges that are done have left the sums.
    most.done = Math.max(most.done, done);
    most.total = Math.max(most.total, total, most.done);
    await job.report({ ...most, unit: 'keys' });
    await sleep(lookEveryMs, undefined, { signal: job.signal });
  }
}
