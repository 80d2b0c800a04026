/**
 * Databases of a test's own on servers that all tests of a Jest run share: the first test that asks starts the server, a guard ends it with the
 * run. Slots, roles and settings belong to the whole server: give each test's cluster a name of its own (`cluster`).
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { giveTo, makePassage } from '../embedded/account.os.ts';
import {
  prepareDatabase,
  runtimeDatabase,
  runtimeRole,
  serverUrl,
  withClient,
  withDatabase,
} from '../embedded/database.pg.ts';
import { freePorts, isPortFree } from '../embedded/ports.os.ts';
import { testServerSettings } from '../embedded/server-settings.ts';
import { PostgresServer } from '../embedded/server.os.ts';
import { guardWhileAlive } from './guard.os.ts';
import { isPortTaken, majorsOf, type TestNode } from './masters.pg.ts';
import { copyTemplate, templateFor, type TestMajor } from './template.pg.ts';
import { sharedInTestRun, testRunPid } from './test-run.os.ts';

export interface FreshNodesOptions {
  readonly count?: number;
  readonly major?: TestMajor | readonly TestMajor[];
  readonly originPrivileges?: boolean;
}

export interface FreshNodes extends AsyncDisposable {
  readonly nodes: readonly TestNode[];
  /** A name for the test's cluster that no other test has. */
  readonly cluster: string;
}

interface SharedServer {
  readonly port: number;
  readonly superPassword: string;
  readonly rolePassword: string;
}

export async function freshNodes(options: FreshNodesOptions = {}): Promise<FreshNodes> {
  const cluster = `t${randomBytes(5).toString('hex')}`;
  const nodes: TestNode[] = [];
  const dispose = async () => {
    for (const node of nodes) await dropDatabase(node.superUrl);
  };
  try {
    for (const [place, major] of majorsOf(options).entries()) {
      const server = await sharedServer(major, options.originPrivileges ?? false);
      const name = `n${place + 1}`;
      const database = `${cluster}_${name}`;
      const url = (role: string, password: string, into: string) =>
        serverUrl({ role, password, port: server.port, database: into });
      await withClient(url('postgres', server.superPassword, 'postgres'), (client) =>
        client.query(`create database ${database} template ${runtimeDatabase} owner ${runtimeRole}`),
      );
      nodes.push({
        name,
        zone: `z${place + 1}`,
        major,
        url: url(runtimeRole, server.rolePassword, database),
        superUrl: url('postgres', server.superPassword, database),
      });
    }
  } catch (cause) {
    await dispose();
    throw cause;
  }
  return { nodes, cluster, [Symbol.asyncDispose]: dispose };
}

/** What keeps a database from being dropped goes first: prepared transactions, sessions, slots. */
async function dropDatabase(superUrl: string): Promise<void> {
  const database = decodeURIComponent(new URL(superUrl).pathname.slice(1));
  await withClient(superUrl, async (client) => {
    const { rows } = await client.query<{ gid: string }>(
      'select gid from pg_catalog.pg_prepared_xacts where database = current_database()',
    );
    for (const { gid } of rows) await client.query(`rollback prepared ${client.escapeLiteral(gid)}`);
  });
  await withClient(withDatabase(superUrl, 'postgres'), async (client) => {
    await client.query(
      'select pg_terminate_backend(pid, 5000) from pg_catalog.pg_stat_activity where datname = $1',
      [database],
    );
    await client.query(
      'select pg_drop_replication_slot(slot_name) from pg_catalog.pg_replication_slots where database = $1',
      [database],
    );
    await client.query(`drop database ${client.escapeIdentifier(database)} with (force)`);
  });
}

function sharedServer(major: TestMajor, originPrivileges: boolean): Promise<SharedServer> {
  return sharedInTestRun({
    name: `pg${major}${originPrivileges ? '-origins' : ''}`,
    start: (folder) => startShared(folder, { major, originPrivileges }),
    answers: ({ port }) => isPortFree(port).then((free) => !free),
    startMsMax: 120_000,
  });
}

async function startShared(
  folder: string,
  options: { major: TestMajor; originPrivileges: boolean },
): Promise<SharedServer> {
  const template = await templateFor(options.major, 0);
  makePassage(folder, template.account);
  giveTo(folder, template.account);
  const dataDir = join(folder, 'data');
  const settings = {
    ...testServerSettings,
    max_connections: '400',
    max_replication_slots: '100',
    max_wal_senders: '100',
  };
  const server = new PostgresServer({
    installation: template.installation,
    account: template.account,
    dataDir,
    logFile: join(folder, 'log'),
    settings,
  });
  await copyTemplate(template, dataDir);
  server.onSpawn((pid) => guardWhileAlive({ owner: testRunPid(), pid, dataDir }));
  for (let tries = 1; !server.isRunning; tries++) {
    const [port] = await freePorts(1);
    try {
      await server.start(port!);
    } catch (cause) {
      if (!isPortTaken(cause) || tries === 10) throw cause;
    }
  }
  const { superPassword, rolePassword } = template;
  const superUrl = serverUrl({
    role: 'postgres',
    password: superPassword,
    port: server.port,
    database: 'postgres',
  });
  if (options.originPrivileges) await prepareDatabase({ superUrl, rolePassword, originPrivileges: true });
  return { port: server.port, superPassword, rolePassword };
}
