import { describe, expect, test } from '@jest/globals';
import { PgquorumError } from '../errors/error.ts';
import { describeSettings, loadSettings, settingsTable } from './settings.ts';

function mistakes(env: Record<string, string>, yaml?: string): string[] {
  try {
    loadSettings(env, yaml);
  } catch (error) {
    expect(error).toBeInstanceOf(PgquorumError);
    expect((error as PgquorumError).code).toBe('settings_invalid');
    return (error as PgquorumError).detail.split('; ');
  }
  return [];
}

describe('without any setting', () => {
  test('every setting has its default', () => {
    const settings = loadSettings({});
    for (const [key, entry] of Object.entries(settingsTable))
      expect([key, settings[key as keyof typeof settings]]).toEqual([key, entry.fallback]);
  });

  test('every default is a value that the setting itself accepts', () => {
    for (const entry of Object.values(settingsTable)) {
      if (entry.fallback !== undefined)
        expect([entry.env, entry.schema.safeParse(entry.fallback).success]).toEqual([entry.env, true]);
    }
  });
});

test('names are unique, and each setting says what it is for', () => {
  const entries = Object.values(settingsTable);
  expect(new Set(entries.map((entry) => entry.env)).size).toBe(entries.length);
  for (const entry of entries) {
    expect(entry.env).toMatch(/^PGQUORUM_[A-Z][A-Z0-9_]*$/);
    expect(entry.about).toMatch(/^\S.*\.$/);
  }
});

test('a duration or a size names its unit', () => {
  for (const entry of Object.values(settingsTable)) {
    if (entry.env.endsWith('_MS')) expect(entry).toMatchObject({ unit: 'ms' });
    if (entry.env.endsWith('_BYTES_MAX')) expect(entry).toMatchObject({ unit: 'bytes' });
  }
});

describe('values', () => {
  test('come from the environment as text', () => {
    const settings = loadSettings({
      PGQUORUM_HTTP_PORT: '0',
      PGQUORUM_KAFKA_BROKERS: 'a:9092, b:9092',
      PGQUORUM_CLUSTER: 'eu-1',
      PGQUORUM_CONSISTENCY_LEVEL: 'quorum',
    });
    expect(settings).toMatchObject({
      httpPort: 0,
      kafkaBrokers: ['a:9092', 'b:9092'],
      cluster: 'eu-1',
      consistencyLevel: 'quorum',
    });
  });

  test('come from the file as YAML, lists and nodes included', () => {
    const settings = loadSettings(
      {},
      `PGQUORUM_BATCH_SIZE: 100
PGQUORUM_API_KEYS: [one, two]
PGQUORUM_NODES:
  - {name: a, url: "postgres://u@h/d", zone: eu, weight: 2}
  - {name: b, url: "postgresql://u@h/d"}
`,
    );
    expect(settings).toMatchObject({ batchSize: 100, apiKeys: ['one', 'two'] });
    expect(settings.nodes).toEqual([
      { name: 'a', url: 'postgres://u@h/d', zone: 'eu', weight: 2 },
      { name: 'b', url: 'postgresql://u@h/d', zone: 'default', weight: 1 },
    ]);
  });

  test('of nodes come from the environment as JSON', () => {
    expect(loadSettings({ PGQUORUM_NODES: '[{"name":"a","url":"postgres://h/d"}]' }).nodes).toEqual([
      { name: 'a', url: 'postgres://h/d', zone: 'default', weight: 1 },
    ]);
  });

  test('of the environment win over the file, empty ones do not', () => {
    expect(loadSettings({ PGQUORUM_BATCH_SIZE: '7' }, 'PGQUORUM_BATCH_SIZE: 100').batchSize).toBe(7);
    expect(loadSettings({ PGQUORUM_BATCH_SIZE: '' }, 'PGQUORUM_BATCH_SIZE: 100').batchSize).toBe(100);
    expect(loadSettings({ PGQUORUM_BATCH_SIZE: '' }).batchSize).toBe(1000);
  });

  test('of an empty file are none', () => {
    expect(loadSettings({}, '')).toEqual(loadSettings({}));
    expect(loadSettings({}, '# nothing\n')).toEqual(loadSettings({}));
  });
});

describe('mistakes', () => {
  test('are all reported together', () => {
    const found = mistakes(
      {
        PGQUORUM_HTTP_PORT: '70000',
        PGQUORUM_BATCH_SIZE: 'many',
        PGQUORUM_BATCH_SIZES: '1',
        PGQUORUM_LOG_LEVEL: 'loud',
      },
      'PGQUORUM_NUM_SHARDS: 0\nzone: eu\n',
    );
    for (const name of [
      'PGQUORUM_HTTP_PORT',
      'PGQUORUM_BATCH_SIZE:',
      'PGQUORUM_BATCH_SIZES: unknown setting',
      'PGQUORUM_LOG_LEVEL',
      'PGQUORUM_NUM_SHARDS',
      'zone: unknown setting',
    ]) {
      expect(found.filter((mistake) => mistake.startsWith(name))).toHaveLength(1);
    }
    expect(found).toHaveLength(6);
  });

  test.each([
    ['a fraction', { PGQUORUM_BATCH_SIZE: '1.5' }],
    ['a negative number', { PGQUORUM_POOL_MAX: '-1' }],
    ['a name that is none', { PGQUORUM_CLUSTER: 'Not A Name' }],
    ['a list with an empty place', { PGQUORUM_API_KEYS: 'one,' }],
    ['a Postgres that has no build', { PGQUORUM_PG_MAJOR: '17' }],
    ['nodes that are not JSON', { PGQUORUM_NODES: '[{' }],
    ['no nodes', { PGQUORUM_NODES: '[]' }],
    ['a node without a url', { PGQUORUM_NODES: '[{"name":"a"}]' }],
    ['a node of another kind of database', { PGQUORUM_NODES: '[{"name":"a","url":"mysql://h/d"}]' }],
    [
      'a node with an unknown field',
      { PGQUORUM_NODES: '[{"name":"a","url":"postgres://h/d","colour":"red"}]' },
    ],
    ['a node without weight', { PGQUORUM_NODES: '[{"name":"a","url":"postgres://h/d","weight":0}]' }],
    [
      'two nodes of one name',
      { PGQUORUM_NODES: '[{"name":"a","url":"postgres://h/1"},{"name":"a","url":"postgres://h/2"}]' },
    ],
  ])('%s is one', (_what, env) => {
    expect(mistakes(env)).toHaveLength(1);
    expect(mistakes(env)[0]).toMatch(new RegExp(`^${Object.keys(env)[0]}: `));
  });

  test('in the file are named', () => {
    expect(mistakes({}, '- a\n- b\n')).toEqual(['pgquorum.yaml: is not a map of settings']);
    expect(mistakes({}, 'PGQUORUM_HOST: [')[0]).toMatch(/^pgquorum\.yaml: /);
  });

  test('never repeat a secret', () => {
    const text = mistakes({
      PGQUORUM_NODES:
        '[{"name":"A!","url":"postgres://user:hunter2@h/d"},{"name":"b","url":"http://user:hunter2@h"}]',
      PGQUORUM_API_KEYS: 'hunter2,,',
    }).join();
    expect(text).toContain('PGQUORUM_NODES');
    expect(text).not.toContain('hunter2');
  });

  test('are not made of names that others use', () => {
    expect(loadSettings({ PATH: '/bin', PGHOST: 'h', PGQUORUM_TEST_SEED: '1' })).toEqual(loadSettings({}));
  });
});

test('help has a line for every setting, with default and unit', () => {
  const lines = describeSettings();
  expect(lines).toHaveLength(Object.keys(settingsTable).length);
  expect(lines).toContain(
    'PGQUORUM_SYNC_INTERVAL_MS (0 ms): The longest that a small batch may linger before it is applied.',
  );
  expect(lines.find((line) => line.startsWith('PGQUORUM_ZONE '))).toContain('(unset)');
});
