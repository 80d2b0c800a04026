/** What has to hold when nothing goes wrong any more and nobody writes, beside that all masters hold the same. */
import { expect } from '@jest/globals';
import { eventually } from '#core/testing/wait.process.ts';
import { edgeSlot, logSlot } from '#core/topology/names.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import { convergedMasters } from '../convergence/compare.ts';
import type { Ledger } from '../convergence/ledger.ts';
import { readFinal } from '../convergence/states.ts';
import { mixedCollections, query, type Scene } from './scene.ts';
import type { Tallies } from './tallies.ts';

const withinMs = 300_000;

export async function settled(
  scene: Scene,
  ledgers: ReadonlyMap<string, Ledger>,
  tallies: Tallies,
): Promise<void> {
  for (const name of Object.values(mixedCollections)) await convergedMasters(scene.members, name);
  for (const master of scene.members) {
    for (const [name, ledger] of ledgers)
      expect([name, ledger.audit(await readFinal(master, name)).slice(0, 10)]).toEqual([name, []]);
    const { alone, counted } = mixedCollections;
    expect(
      await query(master, 'select key, kind, state from pgquorum.conflict where collection = $1 limit 5', [
        alone,
      ]),
    ).toEqual([]);
    const rows = await query<{ id: string; fields: { views: number; stock: number; tags: string[] } }>(
      master,
      `select id, pgquorum.crdt_get('${counted}', id) as fields from public.${counted}`,
    );
    expect(tallies.audit(new Map(rows.map(({ id, fields }) => [id, fields])))).toEqual([]);
  }
  await slotsAreThose(scene);
  await allReady(scene);
}

/** Each master has the slots of its readers, all of them read, and no other one. */
async function slotsAreThose(scene: Scene): Promise<void> {
  const numbers = await scene.numbers();
  const numberOf = (name: string): NodeNumber => numbers.get(name) as NodeNumber;
  for (const master of scene.members) {
    const origin = numberOf(master.name);
    const expected =
      scene.broker === null
        ? scene.members
            .filter((other) => other !== master)
            .map((other) => edgeSlot(scene.cluster, origin, numberOf(other.name)))
        : [logSlot(scene.cluster, origin)];
    let slots: unknown;
    await eventually(
      `the slots of ${master.name} are those of its readers, and read`,
      async () => {
        slots = await query(
          master,
          `select slot_name, active, coalesce(wal_status, '') <> 'lost' as kept from pg_replication_slots where not temporary order by 1`,
        );
        return (
          JSON.stringify(slots) ===
          JSON.stringify(expected.sort().map((slot_name) => ({ slot_name, active: true, kept: true })))
        );
      },
      { withinMs, everyMs: 200 },
    ).catch((cause: Error) => {
      throw new Error(`${cause.message}; there are ${JSON.stringify(slots)}`, { cause });
    });
  }
}

async function allReady(scene: Scene): Promise<void> {
  for (const at of scene.gateways.keys()) {
    let answer = '';
    await eventually(
      `gateway ${at} is ready`,
      async () => {
        const response = await fetch(`${scene.gatewayUrl(at)}/readyz`);
        answer = await response.text();
        return response.status === 200;
      },
      { withinMs, everyMs: 200 },
    ).catch((cause: Error) => {
      throw new Error(`${cause.message}; it says ${answer}`, { cause });
    });
  }
}
