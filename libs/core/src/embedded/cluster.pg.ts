/** The three masters of `npm start`: found or made, kept running, stopped together. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { serverAccount } from './account.os.ts';
import type { DataFolder } from './data-folder.os.ts';
import { findPostgres, machineCacheDir } from './find-postgres.os.ts';
import type { Installation } from './installation.os.ts';
import { EmbeddedMaster, majorOfData } from './master.pg.ts';

const places = [1, 2, 3].map((number) => ({ name: `n${number}`, zone: `z${number}` }));
const firstRetryMs = 200;
const lastRetryMs = 10_000;

export interface ClusterOptions {
  readonly folder: DataFolder;
  readonly pgBin: string | undefined;
  readonly pgMajor: number;
  readonly pgImage: string;
  readonly say: (line: string) => void;
  /** A master came or went: the processes of those that run now. */
  readonly onChange: (pids: readonly number[]) => void;
}

export class EmbeddedCluster {
  readonly #options: ClusterOptions;
  readonly #stopping = new AbortController();
  readonly #repairs = new Map<EmbeddedMaster, Promise<void>>();
  #masters: EmbeddedMaster[] = [];

  constructor(options: ClusterOptions) {
    this.#options = options;
  }

  get nodes(): NodeAddress[] {
    return this.#masters.map(({ name, zone, url }) => ({ name, zone, url, weight: 1 }));
  }

  async start(): Promise<void> {
    const { folder, say } = this.#options;
    const nodesFolder = join(folder.serverFolder, 'nodes');
    const installation = await this.#installation(nodesFolder);
    say(`Postgres ${installation.version} from ${installation.source}`);
    this.#masters = places.map(({ name, zone }) => {
      const account = serverAccount(join(nodesFolder, name, 'data'));
      return new EmbeddedMaster({
        name,
        zone,
        nodesFolder,
        logFile: join(folder.logs, `postgres-${name}.log`),
        installation,
        account,
      });
    });
    const started = await Promise.allSettled(this.#masters.map((master) => this.#startOne(master)));
    const failure = started.find((result) => result.status === 'rejected');
    if (failure !== undefined) {
      await this.stop();
      throw failure.reason;
    }
  }

  /** All at once; what is committed stays. Answers the names of those that had to be ended the hard way. */
  async stop(): Promise<string[]> {
    this.#stopping.abort();
    await Promise.all(this.#repairs.values());
    const stopped = await Promise.all(
      this.#masters.map(async (master) => ((await master.stop('fast')) ? undefined : master.name)),
    );
    return stopped.filter((name) => name !== undefined);
  }

  /** Data decides the major: a server of another one cannot read it. */
  async #installation(nodesFolder: string): Promise<Installation> {
    const { folder, pgBin, pgMajor, pgImage, say } = this.#options;
    const majorOfMasters = places
      .map(({ name }) => majorOfData(nodesFolder, name))
      .find((major) => major !== undefined);
    if (majorOfMasters !== undefined && majorOfMasters !== pgMajor)
      say(`the masters in ${folder.root} are of Postgres ${majorOfMasters}`);
    const major = majorOfMasters ?? pgMajor;
    const cacheDirs = [join(folder.serverFolder, 'cache'), machineCacheDir()];
    const installation = await findPostgres({
      pgBin,
      major,
      image: pgImage,
      cacheDirs,
      account: serverAccount(),
      say,
    });
    if (majorOfMasters !== undefined && installation.major !== majorOfMasters) {
      throw new PgquorumError(
        'embedded_failed',
        `the masters in ${folder.root} are of Postgres ${majorOfMasters}, but ${installation.source} is ${installation.major}`,
      );
    }
    return installation;
  }

  async #startOne(master: EmbeddedMaster): Promise<void> {
    await master.start();
    master.server.onExit((how) => {
      this.#changed();
      if (this.#stopping.signal.aborted || this.#repairs.has(master)) return;
      this.#options.say(`master ${master.name} ended (${how}) and is started again`);
      this.#repairs.set(
        master,
        this.#restart(master).finally(() => this.#repairs.delete(master)),
      );
    });
    this.#changed();
  }

  /** Until it runs or the cluster stops. A start that fails ends the server too, but only this loop tries again. */
  async #restart(master: EmbeddedMaster): Promise<void> {
    for (
      let waitMs = firstRetryMs;
      !this.#stopping.signal.aborted;
      waitMs = Math.min(waitMs * 2, lastRetryMs)
    ) {
      try {
        await master.startAgain();
        this.#changed();
        this.#options.say(`master ${master.name} is up again`);
        return;
      } catch (cause) {
        this.#options.say(`master ${master.name} does not start: ${(cause as Error).message}`);
      }
      await delay(waitMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined); // stopping ends the wait
    }
  }

  #changed(): void {
    this.#options.onChange(
      this.#masters.map((master) => master.server.pid).filter((pid) => pid !== undefined),
    );
  }
}
