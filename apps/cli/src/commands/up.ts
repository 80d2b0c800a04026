/**
 * `pgquorum up`, what `npm start` runs: masters (unless PGQUORUM_NODES names the user's own), founding, replicators, gateway, in this order,
 * and back in the opposite one at SIGINT or SIGTERM.
 */
import type { Settings } from '#core/config/settings.ts';
import { serverAccount } from '#core/embedded/account.os.ts';
import { EmbeddedCluster } from '#core/embedded/cluster.pg.ts';
import { openDataFolder, type DataFolder } from '#core/embedded/data-folder.os.ts';
import { isHeld, tryLock } from '#core/embedded/lock.os.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { ClusterNode } from '#core/topology/found.pg.ts';
import { Nodes } from '#core/topology/nodes.pg.ts';
import { openCluster } from '#core/topology/open-cluster.pg.ts';
import { refuseArguments, type Command } from '../command.ts';
import { readSettings } from '../settings.ts';
import { Applications } from '../supervisor/applications.ts';
import { readClusterFile, removeClusterFile, writeClusterFile } from '../supervisor/cluster-file.ts';
import { ProcessRecord } from '../supervisor/leftovers.ts';

export const up: Command = {
  name: 'up',
  about:
    'runs masters, replicators and gateway in the foreground until Ctrl-C (what a plain `pgquorum` does)',
  usage: '',
  async run(args) {
    const refused = refuseArguments('up', args);
    if (refused !== undefined) return refused;
    const settings = readSettings();
    const folder = openDataFolder(settings.dataDir, serverAccount(), say);
    const lock = tryLock(folder.lockFile);
    if (!isHeld(lock)) {
      const running = readClusterFile(folder.clusterFile);
      const where = running === undefined ? '' : `, at ${running.http}`;
      throw new PgquorumError(
        'already_running',
        `pgquorum is running already in ${folder.root} (process ${lock.pid}${where}); stop it first, or set another PGQUORUM_DATA_DIR`,
      );
    }
    try {
      return await runUntilStopped(settings, folder);
    } finally {
      lock.release();
    }
  },
};

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function runUntilStopped(settings: Settings, folder: DataFolder): Promise<number> {
  const stop = stopSignal();
  const record = new ProcessRecord(folder.childrenFile);
  removeClusterFile(folder.clusterFile);
  const left = await record.endLeftovers();
  if (left.length > 0) say(`ended what an earlier run left behind: process ${left.join(', ')}`);
  const running = { children: [] as readonly number[], masters: [] as readonly number[] };
  const note = (change: Partial<typeof running>) => record.update(Object.assign(running, change));

  const masters =
    settings.nodes === undefined
      ? new EmbeddedCluster({ folder, ...settings, say, onChange: (pids) => note({ masters: pids }) })
      : undefined;
  let applications: Applications | undefined;
  let clean = true;
  try {
    await masters?.start();
    if (!stop.signal.aborted) {
      const listed = settings.nodes ?? masters!.nodes;
      const { nodes } = await openCluster({
        nodes: listed,
        cluster: settings.cluster,
        log: settings.kafkaBrokers === undefined ? 'wal' : 'kafka',
        signal: stop.signal,
      });
      applications = new Applications({
        settings,
        folder,
        listed,
        nodes,
        say,
        onChange: (pids) => note({ children: pids }),
      });
      await serve(applications, { folder, nodes, stop });
    }
  } catch (cause) {
    if (!stop.signal.aborted) throw cause;
  } finally {
    clean = await stopAll(applications, masters);
    removeClusterFile(folder.clusterFile);
    await record.close();
    stop.dispose();
  }
  say('pgquorum stopped');
  return clean ? 0 : 1;
}

async function serve(
  applications: Applications,
  options: { folder: DataFolder; nodes: readonly ClusterNode[]; stop: StopSignal },
): Promise<void> {
  const { folder, nodes, stop } = options;
  await applications.start();
  await applications.waitUntilReady(stop.signal);
  const { http, grpc } = applications.addresses;
  const watched = new Nodes(nodes, { poolMax: 1, application: 'pgquorum up' });
  const tell = (): void =>
    writeClusterFile(folder.clusterFile, {
      http,
      grpc,
      nodes: watched.all.map(({ address: { name, zone, url } }) => ({ name, zone, url })),
    });
  watched.onChange(() => {
    tell();
    applications
      .follow(watched.all.map(({ name }) => name))
      .catch((cause: unknown) => say(`a replicator could not be started: ${(cause as Error).message}`));
  });
  try {
    tell();
    process.stdout.write(`pgquorum ready: dashboard ${http}/ HTTP ${http} gRPC ${grpc}\n`);
    await stop.requested;
  } finally {
    await watched.close();
  }
}

/** Nothing new comes in, then what came in gets out, then the masters stop. */
async function stopAll(
  applications: Applications | undefined,
  masters: EmbeddedCluster | undefined,
): Promise<boolean> {
  const hard = await (applications?.stop() ?? []);
  const hardMasters = await (masters?.stop() ?? []);
  for (const name of [...hard, ...hardMasters.map((master) => `master ${master}`)])
    say(`${name} did not stop by itself and was ended`);
  return hard.length + hardMasters.length === 0;
}

interface StopSignal {
  readonly signal: AbortSignal;
  readonly requested: Promise<void>;
  dispose(): void;
}

/**
 * Ctrl-C reaches npm, its script and this process at once, and each passes it on: one press arrives several times, so a repetition cannot
 * mean "harder". What hangs is ended by its time limit instead.
 */
function stopSignal(): StopSignal {
  const controller = new AbortController();
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  let resolve: () => void = () => undefined;
  const requested = new Promise<void>((done) => (resolve = done));
  const listener = () => {
    if (!controller.signal.aborted) say('stopping');
    controller.abort();
    resolve();
  };
  for (const name of names) process.on(name, listener);
  // A terminal that was closed must not keep the stop from happening.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  return {
    signal: controller.signal,
    requested,
    dispose: () => {
      for (const name of names) process.off(name, listener);
    },
  };
}
