/** The address of the brokers as the settings have it, with how connections to them are protected. Throws `settings_invalid` for what does not go together. */
import { readFileSync } from 'node:fs';
import type { Settings } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import type { KafkaAddress } from './client.kafka.ts';

export function kafkaAddress(settings: Settings): KafkaAddress {
  const ssl = tlsOf(settings);
  const sasl = saslOf(settings);
  return {
    brokers: settings.kafkaBrokers ?? [],
    security: { ...(ssl === null ? {} : { ssl }), ...(sasl === null ? {} : { sasl }) },
  };
}

function tlsOf({ kafkaTls, kafkaTlsCaFile: ca, kafkaTlsCertFile: cert, kafkaTlsKeyFile: key }: Settings) {
  const files = Object.values({ ca, cert, key }).filter((file) => file !== undefined);
  if (kafkaTls === 'off') {
    if (files.length > 0) throw invalid('PGQUORUM_KAFKA_TLS_*_FILE counts only with PGQUORUM_KAFKA_TLS=on');
    return null;
  }
  if ((cert === undefined) !== (key === undefined))
    throw invalid('PGQUORUM_KAFKA_TLS_CERT_FILE and PGQUORUM_KAFKA_TLS_KEY_FILE go together');
  if (files.length === 0) return true;
  return {
    ...(ca === undefined ? {} : { ca: [read('PGQUORUM_KAFKA_TLS_CA_FILE', ca)] }),
    ...(cert === undefined ? {} : { cert: read('PGQUORUM_KAFKA_TLS_CERT_FILE', cert) }),
    ...(key === undefined ? {} : { key: read('PGQUORUM_KAFKA_TLS_KEY_FILE', key) }),
  };
}

function saslOf(settings: Settings): NonNullable<KafkaAddress['security']>['sasl'] | null {
  const { kafkaTls, kafkaSaslMechanism: mechanism } = settings;
  const { kafkaSaslUsername: username, kafkaSaslPassword: password } = settings;
  if (mechanism === undefined) {
    if (username !== undefined || password !== undefined)
      throw invalid('PGQUORUM_KAFKA_SASL_USERNAME and _PASSWORD need PGQUORUM_KAFKA_SASL_MECHANISM');
    return null;
  }
  if (username === undefined || password === undefined)
    throw invalid(
      `PGQUORUM_KAFKA_SASL_MECHANISM=${mechanism} needs PGQUORUM_KAFKA_SASL_USERNAME and PGQUORUM_KAFKA_SASL_PASSWORD`,
    );
  if (mechanism === 'plain' && kafkaTls === 'off')
    throw invalid(
      'PGQUORUM_KAFKA_SASL_MECHANISM=plain sends the password as it is: it needs PGQUORUM_KAFKA_TLS=on',
    );
  switch (mechanism) {
    case 'plain':
      return { mechanism, username, password };
    case 'scram-sha-256':
      return { mechanism, username, password };
    case 'scram-sha-512':
      return { mechanism, username, password };
  }
}

function read(setting: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw invalid(`${setting}: ${(cause as NodeJS.ErrnoException).code ?? 'it'}: ${file} can not be read`);
  }
}

const invalid = (detail: string): PgquorumError => new PgquorumError('settings_invalid', detail);
