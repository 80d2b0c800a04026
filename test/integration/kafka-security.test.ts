/** Kafka behind TLS and SASL, by the settings: what a broker asks for is given, and what is wrong is said. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { kafkaAddress } from '#core/changelog/address.files.ts';
import { freePorts } from '#core/embedded/ports.os.ts';
import { run } from '#core/embedded/process.os.ts';
import { loadSettings } from '#core/config/settings.ts';
import { startKafka, type KafkaBroker } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { BatchSource } from '../contract/log-batches.ts';
import { beginning, openReader, openWriter } from './kafka-log-fixture.ts';

const kafka = await kafkaAvailable();
const openssl = await run('openssl', ['version']).catch(() => null);
const unavailable =
  kafka.kind === 'unavailable' ? kafka.reason : openssl === null ? 'there is no openssl' : undefined;
if (unavailable !== undefined) process.stderr.write(`skipped: Kafka behind TLS and SASL (${unavailable})\n`);
const describeWithKafka = unavailable === undefined ? describe : describe.skip;

const settings = (extra: Record<string, string>) =>
  loadSettings({ PGQUORUM_KAFKA_BROKERS: '127.0.0.1:1', ...extra });
const refusal = (extra: Record<string, string>): unknown => {
  try {
    return kafkaAddress(settings(extra));
  } catch (cause) {
    return cause;
  }
};

test('settings that do not go together are refused with what is missing, and a password is never repeated', () => {
  const secret = { PGQUORUM_KAFKA_SASL_USERNAME: 'u', PGQUORUM_KAFKA_SASL_PASSWORD: 'hidden-word' };
  const cases: [Record<string, string>, RegExp][] = [
    [{ PGQUORUM_KAFKA_SASL_MECHANISM: 'scram-sha-256' }, /needs PGQUORUM_KAFKA_SASL_USERNAME/],
    [secret, /need PGQUORUM_KAFKA_SASL_MECHANISM/],
    [{ ...secret, PGQUORUM_KAFKA_SASL_MECHANISM: 'plain' }, /needs PGQUORUM_KAFKA_TLS=on/],
    [{ PGQUORUM_KAFKA_TLS_CA_FILE: '/ca.pem' }, /counts only with PGQUORUM_KAFKA_TLS=on/],
    [{ PGQUORUM_KAFKA_TLS: 'on', PGQUORUM_KAFKA_TLS_KEY_FILE: '/key.pem' }, /go together/],
    [{ PGQUORUM_KAFKA_TLS: 'on', PGQUORUM_KAFKA_TLS_CA_FILE: '/nowhere/ca.pem' }, /CA_FILE: ENOENT/],
  ];
  for (const [given, expected] of cases) {
    const found = refusal(given);
    expect(found).toMatchObject({ code: 'settings_invalid', detail: expect.stringMatching(expected) });
    expect(String(found)).not.toContain('hidden-word');
  }
  expect(refusal({})).toEqual({ brokers: ['127.0.0.1:1'], security: {} });
  expect(refusal({ PGQUORUM_KAFKA_TLS: 'on' })).toMatchObject({ security: { ssl: true } });
});

describeWithKafka('with a broker that asks for it', () => {
  let broker: KafkaBroker;
  let folder: string;
  let ports: { scram: number; tls: number; both: number };
  const file = (name: string): string => join(folder, name);

  /** A certificate that signs itself, for a server and for a client at once. */
  async function certify(name: string): Promise<void> {
    const options = `req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=${name} -addext subjectAltName=IP:127.0.0.1,DNS:localhost`;
    const made = await run('openssl', [
      ...options.split(' '),
      '-keyout',
      file(`${name}.key`),
      '-out',
      file(`${name}.crt`),
    ]);
    expect([made.code, made.code === 0 ? '' : made.stderr]).toEqual([0, '']);
    const pem = [`${name}.key`, `${name}.crt`].map((part) => readFileSync(file(part), 'utf8')).join('');
    writeFileSync(file(`${name}.pem`), pem);
  }

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pgquorum-tls-'));
    await Promise.all(['broker', 'client'].map(certify));
    const [scram = 0, tls = 0, both = 0] = await freePorts(3);
    ports = { scram, tls, both };
    const pem = (listener: string) => ({
      [`listener.name.${listener}.ssl.keystore.type`]: 'PEM',
      [`listener.name.${listener}.ssl.keystore.location`]: file('broker.pem'),
      [`listener.name.${listener}.ssl.truststore.type`]: 'PEM',
      [`listener.name.${listener}.ssl.truststore.location`]: file('client.crt'),
    });
    const security = 'org.apache.kafka.common.security';
    broker = await startKafka({
      listeners: { SASL_PLAINTEXT: scram, SSL: tls, SASL_SSL: both },
      scram: ['SCRAM-SHA-512=[name=alice,password=wonderland]'],
      properties: {
        'listener.name.sasl_plaintext.sasl.enabled.mechanisms': 'SCRAM-SHA-512',
        'listener.name.sasl_ssl.sasl.enabled.mechanisms': 'PLAIN',
        'listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config': `${security}.scram.ScramLoginModule required;`,
        'listener.name.sasl_ssl.plain.sasl.jaas.config': `${security}.plain.PlainLoginModule required user_bob="builder";`,
        ...pem('ssl'),
        ...pem('sasl_ssl'),
        'listener.name.ssl.ssl.client.auth': 'required',
      },
    });
  }, 120_000);

  afterAll(async () => {
    await broker?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  const log = (port: number, extra: Record<string, string>) => {
    const address = kafkaAddress(settings({ ...extra, PGQUORUM_KAFKA_BROKERS: `127.0.0.1:${port}` }));
    return {
      kafka: { ...address, brokers: [...address.brokers] },
      topic: `pgquorum.test.${randomUUID()}`,
      source: new BatchSource(),
    };
  };
  const alice = {
    PGQUORUM_KAFKA_SASL_MECHANISM: 'scram-sha-512',
    PGQUORUM_KAFKA_SASL_USERNAME: 'alice',
    PGQUORUM_KAFKA_SASL_PASSWORD: 'wonderland',
  };
  const bob = {
    PGQUORUM_KAFKA_SASL_MECHANISM: 'plain',
    PGQUORUM_KAFKA_SASL_USERNAME: 'bob',
    PGQUORUM_KAFKA_SASL_PASSWORD: 'builder',
  };
  const tls = () => ({ PGQUORUM_KAFKA_TLS: 'on', PGQUORUM_KAFKA_TLS_CA_FILE: file('broker.crt') });
  const certificate = () => ({
    PGQUORUM_KAFKA_TLS_CERT_FILE: file('client.crt'),
    PGQUORUM_KAFKA_TLS_KEY_FILE: file('client.key'),
  });

  async function roundTrip(port: number, extra: Record<string, string>): Promise<void> {
    const made = log(port, extra);
    const writer = await openWriter(made);
    await writer.append([made.source.batch([{ key: 'k', kind: 'put', size: 100 }])]);
    const signal = AbortSignal.timeout(60_000);
    for await (const { changes } of openReader(made).read({ from: beginning, signal })) {
      expect(changes).toMatchObject([{ kind: 'write', key: ['k'] }]);
      return;
    }
    throw new Error('nothing was read');
  }

  test('changes go through SASL with SCRAM, through TLS with a certificate of the client, and through both with PLAIN', async () => {
    await roundTrip(ports.scram, alice);
    await roundTrip(ports.tls, { ...tls(), ...certificate() });
    await roundTrip(ports.both, { ...tls(), ...bob });
  }, 180_000);

  test('a wrong password, an authority that did not sign, a client without a certificate and no login are each refused', async () => {
    const refused: [number, Record<string, string>, RegExp][] = [
      [ports.scram, { ...alice, PGQUORUM_KAFKA_SASL_PASSWORD: 'looking-glass' }, /[Aa]uthentication/],
      [ports.scram, {}, /closed|ECONNRESET|disconnected/i],
      [ports.both, { ...bob, PGQUORUM_KAFKA_TLS: 'on' }, /self-signed certificate/],
      [ports.tls, tls(), /certificate|closed|ECONNRESET|alert/i],
    ];
    for (const [port, extra, reason] of refused) {
      const error: unknown = await openWriter(log(port, extra)).catch((cause: unknown) => cause);
      expect(error).toMatchObject({ code: 'not_ready', detail: expect.stringMatching(reason) });
      expect(String(error)).not.toContain('looking-glass');
    }
  }, 180_000);
});
