/** docker-compose.yml and the Dockerfile, checked without Docker; the container tests run the same services for real. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { projectRoot } from '#core/config/project-root.files.ts';
import { loadSettings, settingsTable } from '#core/config/settings.ts';
import { embeddedServerSettings } from '#core/embedded/server-settings.ts';
import { officialImages } from '#core/testing/docker-images.os.ts';
import { composePath, readCompose, startOrder, type ComposeService } from '../containers/compose-file.ts';

const file = readCompose({ PGQUORUM_API_KEYS: 'one,two' });
const services = Object.entries(file.services);
const applications = services.filter(([, service]) => service.build !== undefined);
const masters = services.filter(([, service]) => 'POSTGRES_USER' in service.environment);

const settingsOf = (service: ComposeService) => loadSettings(service.environment);
const service = (name: string): ComposeService => {
  const found = file.services[name];
  if (found === undefined) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
};

describe('docker-compose.yml', () => {
  test('has three masters, Kafka, a replicator for each master and a gateway', () => {
    expect(Object.keys(file.services).sort()).toEqual([
      'gateway',
      'kafka',
      'n1',
      'n2',
      'n3',
      'replicator-n1',
      'replicator-n2',
      'replicator-n3',
    ]);
    expect(masters.map(([name]) => name)).toEqual(['n1', 'n2', 'n3']);
  });

  test('takes the official images, and others where variables name them', () => {
    const images = (variables: Record<string, string>) => {
      const { n1, kafka, gateway } = readCompose({ PGQUORUM_API_KEYS: 'k', ...variables }).services;
      return { postgres: n1?.image, kafka: kafka?.image, node: gateway?.build?.args['NODE_IMAGE'] };
    };
    expect(images({})).toEqual(officialImages);
    expect(officialImages.postgres).toBe(settingsTable.pgImage.fallback);
    expect(images({ PGQUORUM_PG_IMAGE: 'a', KAFKA_IMAGE: 'b', NODE_IMAGE: 'c' })).toEqual({
      postgres: 'a',
      kafka: 'b',
      node: 'c',
    });
    expect(new Set(masters.map(([, { image }]) => image)).size).toBe(1);
    expect(new Set(applications.map(([, { image }]) => image)).size).toBe(1);
  });

  test('waits only for services that exist, without a circle', () => {
    expect(startOrder(file)).toHaveLength(services.length);
    const needed = services.flatMap(([, { depends_on: needs }]) => Object.keys(needs));
    expect(needed.filter((name) => !(name in file.services))).toEqual([]);
    for (const [, application] of applications)
      expect(Object.keys(application.depends_on).sort()).toEqual(['kafka', 'n1', 'n2', 'n3']);
  });

  test('gives every application settings that it accepts', () => {
    for (const [, application] of applications) {
      const settings = settingsOf(application);
      expect(settings.nodes?.map(({ url }) => new URL(url).hostname)).toEqual(['n1', 'n2', 'n3']);
      expect(settings.nodes?.map(({ name }) => name)).toEqual(['n1', 'n2', 'n3']);
      expect(settings.kafkaBrokers).toEqual(['kafka:9092']);
      expect(settings.nodes?.map(({ zone }) => zone)).toContain(settings.zone);
    }
  });

  test('gives each master one replicator, whose port is the one that is probed', () => {
    const replicators = applications.filter(([name]) => name.startsWith('replicator-'));
    expect(replicators.map(([, one]) => settingsOf(one).replicatorNodes)).toEqual([['n1'], ['n2'], ['n3']]);
    for (const [, one] of replicators)
      expect(one.healthcheck.test.at(-1)).toContain(`:${settingsOf(one).metricsPort}/readyz`);
  });

  test('publishes the gateway alone, on the loopback address, and not without keys', () => {
    expect(services.filter(([, { ports }]) => ports.length > 0).map(([name]) => name)).toEqual(['gateway']);
    const { httpPort, grpcPort, host, apiKeys } = settingsOf(service('gateway'));
    expect(service('gateway').ports).toEqual([`127.0.0.1:8080:${httpPort}`, `127.0.0.1:50051:${grpcPort}`]);
    expect(service('gateway').healthcheck.test.at(-1)).toContain(`:${httpPort}/readyz`);
    expect({ host, apiKeys }).toEqual({ host: '0.0.0.0', apiKeys: ['one', 'two'] });
    expect(() => readCompose({})).toThrow('PGQUORUM_API_KEYS is not set');
    expect(() => readCompose({ PGQUORUM_API_KEYS: '' })).toThrow('PGQUORUM_API_KEYS is not set');
  });

  test('keeps what must outlive a container on volumes of its own', () => {
    const volumes = services.flatMap(([, one]) => one.volumes).filter((volume) => !volume.startsWith('.'));
    expect(volumes.map((volume) => volume.split(':')[0]!).toSorted((a, b) => a.localeCompare(b))).toEqual(
      Object.keys(file.volumes).toSorted((a, b) => a.localeCompare(b)),
    );
    expect(new Set(volumes).size).toBe(volumes.length);
  });

  test('prepares each master with the bootstrap file, in the order that its role needs', () => {
    for (const [, { volumes, environment }] of masters) {
      expect(volumes).toContain('./docker/bootstrap.sql:/docker-entrypoint-initdb.d/bootstrap.sql:ro');
      expect(environment['ROLE_PASSWORD']).toBe(
        new URL(settingsOf(service('gateway')).nodes?.[0]?.url ?? '').password,
      );
    }
    const sql = readFileSync(join(projectRoot, 'docker/bootstrap.sql'), 'utf8');
    expect(sql).toMatch(
      /create role pgquorum login replication password[^]*create database pgquorum owner pgquorum[^]*\\connect pgquorum[^]*create extension vector with schema public/,
    );
    expect(sql).not.toMatch(/create role pgquorum[^;]*\b(superuser|createrole|createdb|bypassrls)\b/);
  });

  test('starts masters with the replication settings of the embedded ones', () => {
    const wanted = [
      'wal_level',
      'max_wal_senders',
      'max_replication_slots',
      'max_prepared_transactions',
      'track_commit_timestamp',
      'max_slot_wal_keep_size',
    ];
    for (const [, { command }] of masters) {
      expect(command?.[0]).toBe('postgres');
      expect(command).toEqual(
        expect.arrayContaining(wanted.map((name) => `${name}=${embeddedServerSettings[name]}`)),
      );
    }
  });

  test('runs entry points that the sources have', () => {
    const entries = applications.map(([, { command }]) => command ?? []);
    expect(entries.every(([program]) => program === 'node')).toBe(true);
    const sources = entries.map(([, entry]) => entry?.replace(/^dist\//, '').replace(/\.js$/, '.ts') ?? '');
    expect(sources.filter((path) => !existsSync(join(projectRoot, path)))).toEqual([]);
  });

  const compose = composeCommand();
  if (compose === undefined)
    process.stderr.write(
      'skipped: compose itself is not asked about docker-compose.yml, it is not installed\n',
    );
  (compose === undefined ? test.skip : test)(
    'is accepted by compose itself',
    () => {
      const [program = '', ...args] = compose ?? [];
      const ask = (keys: string) =>
        spawnSync(program, [...args, '-f', composePath, 'config'], {
          encoding: 'utf8',
          env: { ...process.env, PGQUORUM_API_KEYS: keys },
        });
      const accepted = ask('k');
      expect({ status: accepted.status, stderr: accepted.stderr }).toMatchObject({ status: 0 });
      expect(accepted.stdout).toContain('127.0.0.1');
      expect(ask('').status).not.toBe(0);
    },
    60_000,
  );
});

/** The plugin, or the older program of its own. */
function composeCommand(): string[] | undefined {
  const candidates = [['docker', 'compose'], ['docker-compose']];
  return candidates.find(([program = '', ...args]) => spawnSync(program, [...args, 'version']).status === 0);
}

describe('the Dockerfile', () => {
  const lines = readFileSync(join(projectRoot, 'Dockerfile'), 'utf8').split('\n');
  const words = (instruction: string) =>
    lines.filter((line) => line.startsWith(`${instruction} `)).map((line) => line.split(' ').slice(1));

  test('names no base image except through an argument', () => {
    const stages = words('FROM').map(([, , name]) => name);
    const bases = words('FROM').map(([base]) => base);
    expect(bases.filter((base) => base !== '${NODE_IMAGE}' && !stages.includes(base))).toEqual([]);
    expect(words('ARG')).toEqual([[`NODE_IMAGE=${officialImages.node}`]]);
  });

  test('ends as a plain user that is told to stop by SIGTERM', () => {
    const last = lines.slice(lines.findLastIndex((line) => line.startsWith('FROM ')));
    expect(last).toEqual(expect.arrayContaining(['USER node', 'STOPSIGNAL SIGTERM']));
  });

  test('copies what is there and what the daemon is sent', () => {
    const sources = words('COPY')
      .filter(([first]) => !first?.startsWith('--'))
      .flatMap((args) => args.slice(0, -1));
    expect(sources.filter((path) => !existsSync(join(projectRoot, path)))).toEqual([]);
    const sent = readFileSync(join(projectRoot, '.dockerignore'), 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    expect(sources.filter((path) => !sent.includes(path.split('/')[0] ?? ''))).toEqual([]);
  });

  test('takes along every file beside the code that is read at run time', () => {
    const copied = words('COPY').map((args) => args.at(-1)?.replace(/\/$/, ''));
    expect(copied).toEqual(expect.arrayContaining(['migrations', 'libs/core/proto']));
    const assets = readdirSync(join(projectRoot, 'apps'), { recursive: true, withFileTypes: true }).filter(
      (entry) => entry.isFile() && !entry.name.endsWith('.ts'),
    );
    const folders = new Set(assets.map((entry) => entry.parentPath.slice(projectRoot.length + 1)));
    expect(
      [...folders].filter(
        (folder) => !copied.some((path) => folder === path || folder.startsWith(`${path}/`)),
      ),
    ).toEqual([]);
  });
});
