/**
 * One embedded master over its whole life: made once, started on the port it had before where that is free, prepared for the run-time role,
 * restarted when it crashes. Its folder holds `data/`, `secrets.json` and `port`; it appears complete, in one rename, or not at all.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PgquorumError } from '../errors/error.ts';
import { makePassage, type ServerAccount } from './account.os.ts';
import { prepareDatabase, runtimeDatabase, runtimeRole, serverUrl } from './database.pg.ts';
import type { Installation } from './installation.os.ts';
import { freePorts, isPortFree } from './ports.os.ts';
import { embeddedServerSettings, type ServerSettings } from './server-settings.ts';
import { PostgresServer, type StopMode } from './server.os.ts';

export interface MasterOptions {
  readonly name: string;
  readonly zone: string;
  /** The folder that holds the folders of all masters. */
  readonly nodesFolder: string;
  readonly logFile: string;
  readonly installation: Installation;
  readonly account: ServerAccount | undefined;
  /** Those of the embedded cluster where none are given. */
  readonly settings?: ServerSettings;
}

interface Secrets {
  readonly superPassword: string;
  readonly rolePassword: string;
  /** Role, database and extension are there. */
  readonly prepared: boolean;
}

/** The major of a master's data; undefined when it has none yet. */
export function majorOfData(nodesFolder: string, name: string): number | undefined {
  const file = join(nodesFolder, name, 'data', 'PG_VERSION');
  return existsSync(file) ? Number(readFileSync(file, 'utf8').trim()) : undefined;
}

export class EmbeddedMaster {
  readonly name: string;
  readonly zone: string;
  readonly server: PostgresServer;
  readonly #options: MasterOptions;
  readonly #folder: string;
  #secrets: Secrets | undefined;

  constructor(options: MasterOptions) {
    this.#options = options;
    this.name = options.name;
    this.zone = options.zone;
    this.#folder = join(options.nodesFolder, options.name);
    this.server = this.#serverIn(this.#folder);
  }

  get url(): string {
    return serverUrl({
      role: runtimeRole,
      password: this.#known.rolePassword,
      port: this.server.port,
      database: runtimeDatabase,
    });
  }

  get superUrl(): string {
    return serverUrl({
      role: 'postgres',
      password: this.#known.superPassword,
      port: this.server.port,
      database: runtimeDatabase,
    });
  }

  /** Makes the folder if it is not there, starts the server, and prepares it for the role. */
  async start(): Promise<void> {
    if (!existsSync(this.#folder)) await this.#make();
    this.#secrets = this.#readSecrets();
    await this.#startOnSomePort();
    if (this.#secrets.prepared) return;
    const superUrl = serverUrl({
      role: 'postgres',
      password: this.#secrets.superPassword,
      port: this.server.port,
      database: 'postgres',
    });
    await prepareDatabase({ superUrl, rolePassword: this.#secrets.rolePassword, originPrivileges: true });
    this.#secrets = { ...this.#secrets, prepared: true };
    this.#writeSecrets(this.#folder, this.#secrets);
  }

  /** After a crash, on the same port: the replicators and the gateway know no other. */
  async startAgain(): Promise<void> {
    await this.server.start(Number(readFileSync(join(this.#folder, 'port'), 'utf8')));
  }

  async stop(mode: StopMode): Promise<boolean> {
    return this.server.stop(mode);
  }

  get #known(): Secrets {
    if (this.#secrets === undefined)
      throw new PgquorumError('embedded_failed', `master ${this.name} was never started`);
    return this.#secrets;
  }

  #serverIn(folder: string): PostgresServer {
    const { installation, account, logFile, settings = embeddedServerSettings } = this.#options;
    return new PostgresServer({
      installation,
      account,
      dataDir: join(folder, 'data'),
      logFile,
      settings,
    });
  }

  async #make(): Promise<void> {
    const { nodesFolder, account } = this.#options;
    makePassage(nodesFolder, account);
    const making = join(nodesFolder, `.making-${this.name}`);
    rmSync(making, { recursive: true, force: true }); // an earlier start was killed while making it
    makePassage(making, account);
    const secrets = {
      superPassword: randomBytes(16).toString('hex'),
      rolePassword: randomBytes(16).toString('hex'),
      prepared: false,
    };
    await this.#serverIn(making).init(secrets.superPassword);
    this.#writeSecrets(making, secrets);
    renameSync(making, this.#folder);
  }

  /** The port of the last time if it is free, so that people's bookmarks and psql histories go on working. */
  async #startOnSomePort(): Promise<void> {
    const memory = join(this.#folder, 'port');
    const last = existsSync(memory) ? Number(readFileSync(memory, 'utf8')) : 0;
    await this.server.endLeftover();
    for (let tries = 1; ; tries++) {
      const [other = 0] = await freePorts(1);
      const port = tries === 1 && last > 0 && (await isPortFree(last)) ? last : other;
      try {
        await this.server.start(port);
        if (port !== last) writeFileSync(memory, String(port));
        return;
      } catch (cause) {
        if (!(cause instanceof PgquorumError) || cause.extra['portTaken'] !== true || tries === 10)
          throw cause;
      }
    }
  }

  #readSecrets(): Secrets {
    const file = join(this.#folder, 'secrets.json');
    try {
      return JSON.parse(readFileSync(file, 'utf8')) as Secrets;
    } catch (cause) {
      throw new PgquorumError(
        'embedded_failed',
        `master ${this.name} cannot be used without ${file}: ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  #writeSecrets(folder: string, secrets: Secrets): void {
    mkdirSync(folder, { recursive: true });
    const file = join(folder, 'secrets.json');
    writeFileSync(`${file}.new`, JSON.stringify(secrets), { mode: 0o600 });
    renameSync(`${file}.new`, file);
  }
}
