import { expect, test } from '@jest/globals';
import type { NodeLook, ServerFacts } from './preflight-facts.ts';
import { compareVersions, preflightReport } from './preflight.ts';

type Reached = Extract<NodeLook, { reached: true }>;

const facts: ServerFacts = {
  version: 180004,
  settings: {
    wal_level: { value: 'logical', source: 'default' },
    max_replication_slots: { value: '10', source: 'default' },
    max_wal_senders: { value: '10', source: 'default' },
    max_connections: { value: '200', source: 'default' },
    max_slot_wal_keep_size: { value: '1024', source: 'default' },
  },
  inRecovery: false,
  encoding: 'UTF8',
  systemIdentifier: '1',
  databaseOid: '1',
  database: 'db',
  role: { name: 'pgquorum', superuser: false, replication: true, connectionLimit: -1 },
  may: {
    createInDatabase: true,
    createInPublic: true,
    replicaRole: true,
    readSettings: true,
    originsRefused: [],
  },
  foreignObjects: [],
  vector: { installed: '0.8.0', available: '0.8.0' },
  slots: { used: 0, ours: 0 },
  walSenders: { used: 0, ours: 0 },
  connections: 5,
  founded: null,
  collections: [],
  disk: null,
};

const node = (at: number, changed: Partial<ServerFacts> = {}, look: Partial<Reached> = {}): Reached => ({
  name: `n${at}`,
  reached: true,
  facts: { ...facts, systemIdentifier: String(at), ...changed },
  pooler: 'none',
  replicationRefused: null,
  clock: null,
  ...look,
});

const report = (looks: readonly NodeLook[], log: 'wal' | 'kafka' = 'wal') =>
  preflightReport(looks, { cluster: 'c', log, clockDriftMaxMs: 500 });
const said = (looks: readonly NodeLook[], log: 'wal' | 'kafka' = 'wal') =>
  report(looks, log).findings.map(({ node: name, check, severity }) => `${severity} ${name} ${check}`);

test('good nodes have no findings', () => {
  expect(report([node(1), node(2), node(3)])).toMatchObject({ ok: true, findings: [] });
});

test('a clock beyond the bound is found against the median of the others', () => {
  const clock = (offsetMs: number) => ({ clock: { offsetMs, roundTripMs: 1 } });
  const looks = [node(1, {}, clock(10)), node(2, {}, clock(0)), node(3, {}, clock(2010))];
  expect(said(looks)).toEqual(['warning n3 clock']);
  expect(report(looks).findings[0]!.seen).toContain('2000 ms ahead');
  expect(report(looks).ok).toBe(true);
});

test('pgvector that is behind the others, behind its server or too old is found, with the statement when that helps', () => {
  const old = node(2, { vector: { installed: '0.7.4', available: '0.8.0' } });
  const stuck = node(3, { vector: { installed: '0.6.2', available: '0.6.2' } });
  const { findings } = report([
    node(1),
    old,
    stuck,
    node(4, { vector: { installed: null, available: null } }),
  ]);
  expect(findings.map(({ node: name, severity, mend }) => [name, severity, mend?.statements])).toEqual([
    ['n3', 'error', undefined],
    ['n4', 'error', undefined],
    ['n2', 'warning', ['alter extension vector update']],
  ]);
  expect(compareVersions('0.10.0', '0.9.9')).toBeGreaterThan(0);
  expect(compareVersions('1.0', '1.0.0')).toBe(0);
});

test('servers that can not be masters are found: old ones, standbys, other encodings', () => {
  expect(said([node(1, { version: 140010, inRecovery: true, encoding: 'LATIN1' })])).toEqual([
    'error n1 version',
    'error n1 standby',
    'error n1 encoding',
  ]);
  expect(said([node(1, { version: 160004 }), node(2)])).toEqual(['advice n1 versions']);
});

test('with the WAL each other master needs a slot and a sender, with Kafka the feed alone; our own count as free', () => {
  const full = { slots: { used: 9, ours: 0 }, walSenders: { used: 9, ours: 0 } };
  const looks = [node(1, full), node(2), node(3)];
  expect(said(looks)).toEqual(['error n1 max_replication_slots', 'error n1 max_wal_senders']);
  expect(report(looks).findings[0]!.mend).toEqual({
    statements: [`alter system set max_replication_slots = '16'`],
    as: 'superuser',
    restart: true,
  });
  expect(said(looks, 'kafka')).toEqual([]);
  expect(
    said([node(1, { slots: { used: 9, ours: 2 }, walSenders: { used: 9, ours: 2 } }), node(2), node(3)]),
  ).toEqual([]);
});

test('a disk that can not hold what slots may keep is found', () => {
  const disk = (freeGib: number) => ({ disk: { freeBytes: freeGib * 2 ** 30, totalBytes: 5 * 2 ** 30 } });
  expect(said([node(1, disk(0.9))])).toEqual(['warning n1 disk']);
  expect(said([node(1, disk(1.1))])).toEqual([]);
});

test('a setting is mended where its value is from', () => {
  const statements = (source: string) =>
    report([node(1, { settings: { ...facts.settings, fsync: { value: 'off', source } } })]).findings[0]!.mend!
      .statements;
  expect(statements('configuration file')).toEqual([
    `alter system set fsync = 'on'`,
    'select pg_reload_conf()',
  ]);
  expect(statements('user')).toEqual([`alter role "pgquorum" set fsync = 'on'`]);
  expect(statements('database')).toEqual([`alter database "db" set fsync = 'on'`]);
  expect(statements('database user')).toEqual([`alter role "pgquorum" in database "db" set fsync = 'on'`]);
});

test('a database that is a node of another cluster, or under another name or log, is refused', () => {
  for (const founded of [
    { cluster: 'other', name: 'n1', log: 'wal' },
    { cluster: 'c', name: 'n9', log: 'wal' },
    { cluster: 'c', name: 'n1', log: 'kafka' },
  ])
    expect(said([node(1, { founded })])).toEqual(['error n1 identity']);
  expect(said([node(1, { founded: { cluster: 'c', name: 'n1', log: 'wal' } })])).toEqual([]);
});
