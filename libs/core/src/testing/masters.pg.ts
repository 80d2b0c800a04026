/**
 * Real masters for tests. `startMasters` gives a test servers of its own (about a second for three), which it may stop, kill and restart.
 * `freshNodes` gives it databases of its own on a server that all tests of the run share: cheaper, for tests that leave the server alone.
 *
 *     await using cluster = await startMasters({ count: 3 });
 *     const [n1, n2, n3] = cluster.nodes;
 *
 * `withMasters` does the same around a function and keeps the folder, with the servers' logs, when it throws.
 */
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { giveTo, makePassage, serverAccount } from '../embedded/account.os.ts';
import { prepareDatabase, runtimeDatabase, runtimeRole, serverUrl } from '../embedded/database.pg.ts';
import { freePorts } from '../embedded/ports.os.ts';
import { testServerSettings } from '../embedded/server-settings.ts';
import { PostgresServer, type StopMode } from '../embedded/server.os.ts';
import { PgquorumError } from '../errors/error.ts';
import { Guard } from './guard.os.ts';
import { copyTemplate, templateFor, type Template, type TestMajor } from './template.pg.ts';

export interface MastersOptions {
  readonly count?: number;
  /** One major for all, or one for each. */
  readonly major?: TestMajor | readonly TestMajor[];
  /** Server settings beside those of tests. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Variables for the server at a place, 0 for the first. */
  readonly environment?: (place: number) => Readonly<Record<string, string>>;
  /** Lets the role use replication origins and session_replication_role. */
  readonly originPrivileges?: boolean;
  /** Off by default: a killed server loses nothing without it, only a killed machine would. */
  readonly fsync?: boolean;
}

/** A database that is a node. */
export interface TestNode {
  readonly name: string;
  readonly zone: string;
  readonly major: TestMajor;
  /** As the role that pgquorum runs under. */
  readonly url: string;
  /** As the superuser, in the same database. */
  readonly superUrl: string;
}

export interface TestMaster extends TestNode {
  readonly dataDir: string;
  readonly logFile: string;
  readonly port: number;
  readonly isRunning: boolean;
  stop(mode?: StopMode): Promise<void>;
  /** On the same port as before. */
  start(): Promise<void>;
  restart(mode?: StopMode): Promise<void>;
  /** Ends the server and all its backends at once, as a crash would. */
  kill9(): Promise<void>;
}

export interface Masters extends AsyncDisposable {
  readonly nodes: readonly TestMaster[];
  readonly folder: string;
  /** Leaves the folder with data and logs when disposed of. */
  keep(): void;
}

const guard = new Guard();

export async function startMasters(options: MastersOptions = {}): Promise<Masters> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'pgquorum-test-')));
  makePassage(folder, serverAccount());
  if (serverAccount() !== undefined) giveTo(folder, serverAccount());
  const majors = majorsOf(options);
  const masters: Master[] = [];
  let kept = process.env['PGQUORUM_TEST_KEEP'] === '1';
  const dispose = async () => {
    await Promise.all(masters.map((master) => master.dispose()));
    if (!kept) rmSync(folder, { recursive: true, force: true });
  };
  try {
    const templates = [];
    for (const [place, major] of majors.entries()) templates.push(await templateFor(major, place));
    for (const [place, major] of majors.entries())
      masters.push(new Master({ folder, place, major, template: templates[place]!, options }));
    await Promise.all(masters.map((master) => master.create(options.originPrivileges ?? false)));
  } catch (cause) {
    await dispose();
    throw cause;
  }
  return { nodes: masters, folder, keep: () => void (kept = true), [Symbol.asyncDispose]: dispose };
}

/** Masters around a function; what they leave is kept when it throws. */
export async function withMasters<T>(
  options: MastersOptions,
  work: (masters: Masters) => Promise<T>,
): Promise<T> {
  await using masters = await startMasters(options);
  try {
    return await work(masters);
  } catch (cause) {
    masters.keep();
    process.stderr.write(`the masters' data and logs are kept in ${masters.folder}\n`);
    throw cause;
  }
}

export function majorsOf(options: { count?: number; major?: TestMajor | readonly TestMajor[] }): TestMajor[] {
  const { major = 18 } = options;
  if (typeof major !== 'number') return [...major];
  return Array.from({ length: options.count ?? 3 }, () => major);
}

class Master implements TestMaster {
  readonly name: string;
  readonly zone: string;
  readonly major: TestMajor;
  readonly dataDir: string;
  readonly logFile: string;
  readonly #template: Template;
  readonly #server: PostgresServer;
  #port = 0;

  constructor(from: {
    folder: string;
    place: number;
    major: TestMajor;
    template: Template;
    options: MastersOptions;
  }) {
    const { folder, place, major, template, options } = from;
    this.name = `n${place + 1}`;
    this.zone = `z${place + 1}`;
    this.major = major;
    this.#template = template;
    this.dataDir = join(folder, this.name, 'data');
    this.logFile = join(folder, this.name, 'log');
    const settings = {
      ...testServerSettings,
      ...(options.fsync === true ? { fsync: 'on' } : {}),
      ...options.settings,
    };
    this.#server = new PostgresServer({
      installation: template.installation,
      account: template.account,
      dataDir: this.dataDir,
      logFile: this.logFile,
      settings,
      environment: options.environment?.(place),
    });
    this.#server.onSpawn((pid) => guard.add(pid, this.dataDir));
    this.#server.onExit((_how, pid) => guard.remove(pid));
  }

  get port(): number {
    return this.#port;
  }

  get isRunning(): boolean {
    return this.#server.isRunning;
  }

  get url(): string {
    return serverUrl({
      role: runtimeRole,
      password: this.#template.rolePassword,
      port: this.#port,
      database: runtimeDatabase,
    });
  }

  get superUrl(): string {
    return serverUrl({
      role: 'postgres',
      password: this.#template.superPassword,
      port: this.#port,
      database: runtimeDatabase,
    });
  }

  async create(originPrivileges: boolean): Promise<void> {
    makePassage(join(this.dataDir, '..'), this.#template.account);
    giveTo(join(this.dataDir, '..'), this.#template.account);
    await copyTemplate(this.#template, this.dataDir);
    for (let tries = 1; !this.isRunning; tries++) {
      [this.#port = 0] = await freePorts(1);
      try {
        await this.start();
      } catch (cause) {
        if (!isPortTaken(cause) || tries === 10) throw cause;
      }
    }
    if (originPrivileges)
      await prepareDatabase({
        superUrl: this.superUrl,
        rolePassword: this.#template.rolePassword,
        originPrivileges,
      });
  }

  async start(): Promise<void> {
    await this.#server.start(this.#port);
  }

  async stop(mode: StopMode = 'fast'): Promise<void> {
    await this.#server.stop(mode);
  }

  async restart(mode: StopMode = 'fast'): Promise<void> {
    await this.stop(mode);
    await this.start();
  }

  async kill9(): Promise<void> {
    await this.#server.kill9();
  }

  /** Nothing of the data is needed any more, so the servers need not write it out. */
  async dispose(): Promise<void> {
    await this.#server.stop('immediate');
  }
}

export const isPortTaken = (cause: unknown) =>
  cause instanceof PgquorumError && cause.extra['portTaken'] === true;
