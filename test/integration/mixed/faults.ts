/**
 * What goes wrong meanwhile, one after the other, chosen by the seed. Each fault ends by itself: what was killed runs again, what was cut is healed. Which of
 * them hit at what moment of a write is up to the machine.
 *
 * They hit the members of the moment: the fourth master comes and goes meanwhile (membership.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestMaster } from '#core/testing/masters.pg.ts';
import { query, type App, type Scene } from './scene.ts';

export interface FaultOptions {
  readonly scene: Scene;
  readonly random: () => number;
  /** Done once, after so long, while nothing else goes wrong. */
  readonly once: { readonly afterMs: number; readonly work: () => Promise<void> };
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** A start that meets another fault may take its time. */
const calmWithinMs = 60_000;

type Fault = (options: FaultOptions, pause: (ms: number) => Promise<void>) => Promise<string>;

const pick = <T>(list: readonly T[], random: () => number): T => list[Math.floor(random() * list.length)]!;

async function killApp(app: App, down: Promise<void>): Promise<void> {
  await app.process.kill('SIGKILL');
  await down;
  app.process.start();
}

const kinds: Readonly<Record<string, { readonly weight: number; readonly fault: Fault }>> = {
  'replicator killed': {
    weight: 5,
    fault: async ({ scene, random }, pause) => {
      const at = Math.floor(random() * scene.replicators.length);
      await killApp(scene.replicators[at]!, pause(random() * 1500));
      return `n${at + 1}`;
    },
  },
  'gateway killed': {
    weight: 3,
    fault: async ({ scene, random }, pause) => {
      const at = Math.floor(random() * scene.gateways.length);
      await killApp(scene.gateways[at]!, pause(random() * 800));
      return String(at);
    },
  },
  'master killed': {
    weight: 3,
    fault: async ({ scene, random }, pause) => {
      const master = pick(scene.members, random);
      await master.kill9();
      await pause(random() * 2000);
      await master.start();
      return master.name;
    },
  },
  'master restarted': {
    weight: 2,
    fault: async ({ scene, random }) => {
      const master = pick(scene.members, random);
      const mode = random() < 0.5 ? 'fast' : 'immediate';
      await master.restart(mode);
      return `${master.name} ${mode}`;
    },
  },
  'slot dropped': {
    weight: 2,
    fault: async ({ scene, random }) => {
      const master = pick(scene.members, random);
      return `${master.name} ${await dropSlot(scene, master, random)}`;
    },
  },
  'publication remade': {
    weight: 1,
    fault: async ({ scene, random }) => {
      const master = pick(scene.members, random);
      const found = await query(master, `select from pg_publication where pubname = 'pgquorum'`);
      if (found.length === 0) return `${master.name} has none`; // one that joins gets it late
      await query(
        master,
        `drop publication pgquorum; create publication pgquorum for table pgquorum.heartbeat with (publish = 'insert')`,
      );
      return master.name;
    },
  },
  'line cut': {
    weight: 4,
    fault: async ({ scene, random }, pause) => {
      const app = pick([...scene.replicators, ...scene.gateways], random);
      const [name, line] = pick([...app.lines], random);
      const kind = random() < 0.5 ? 'refuse' : 'silence';
      line.cut(kind);
      await pause(500 + random() * 4000);
      line.heal();
      return `to ${name}: ${kind}`;
    },
  },
  'Kafka restarted': {
    weight: 2,
    fault: async ({ scene, random }, pause) => {
      if (random() < 0.5) await scene.broker!.stop();
      else await scene.broker!.kill9();
      await pause(random() * 1000);
      await scene.broker!.start();
      return '';
    },
  },
};

/** Ends whoever reads one of the cluster's slots and drops it, before it is read again. */
async function dropSlot(scene: Scene, master: TestMaster, random: () => number): Promise<string> {
  const prefix = `pgquorum_${scene.cluster.replaceAll('-', '_')}_`;
  const slots = await query<{ slot: string }>(
    master,
    'select slot_name as slot from pg_replication_slots where starts_with(slot_name, $1) and not temporary order by 1',
    [prefix],
  );
  if (slots.length === 0) return 'has none';
  const { slot } = pick(slots, random);
  for (let tries = 0; tries < 50; tries += 1) {
    await query(
      master,
      'select pg_terminate_backend(active_pid, 2000) from pg_replication_slots where slot_name = $1 and active',
      [slot],
    );
    try {
      await query(
        master,
        'select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1',
        [slot],
      );
      return slot;
    } catch (error) {
      if ((error as { code?: string }).code !== '55006') throw error; // its reader was faster
    }
  }
  return `${slot} is always in use`;
}

/** A node leaves and joins by steps of seconds that all masters take part in: each has to find a moment. */
const restMs = ({ scene, random }: FaultOptions): number =>
  scene.isChanging ? 8000 + random() * 8000 : 300 + random() * 1500;

/** Until the signal aborts; how often each happened. */
export async function injectFaults(options: FaultOptions): Promise<Record<string, number>> {
  const { scene, random, once, signal, say } = options;
  const onceMs = performance.now() + once.afterMs;
  let isDone = false;
  const counts: Record<string, number> = {};
  const pause = (ms: number): Promise<void> => sleep(ms, undefined, { signal }).catch(() => undefined);
  const possible = Object.entries(kinds).filter(
    ([name]) => scene.broker !== null || name !== 'Kafka restarted',
  );
  const weights = possible.reduce((sum, [, { weight }]) => sum + weight, 0);
  for (;;) {
    await pause(restMs(options));
    if (!isDone && !signal.aborted && performance.now() > onceMs) {
      isDone = true;
      await once.work();
    }
    if (signal.aborted) return counts;
    let left = random() * weights;
    const [name, { fault }] = possible.find(([, { weight }]) => (left -= weight) < 0)!;
    const began = performance.now();
    const what = await fault(options, pause);
    counts[name] = (counts[name] ?? 0) + 1;
    // One upon the other, or all processes serve again first: on a slow machine none would ever come to anything.
    const waits = random() < 0.6;
    for (
      const until = performance.now() + calmWithinMs;
      waits && !signal.aborted && performance.now() < until;
    )
      if (await scene.isServed()) break;
      else await pause(200);
    say(`${name} ${what} (${Math.round(performance.now() - began)} ms)`);
  }
}
