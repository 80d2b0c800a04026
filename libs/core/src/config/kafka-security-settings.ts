/** How the connections to Kafka are protected; a part of the table in settings.ts. */
import { z } from 'zod';
import { setting, text } from './setting.ts';

export const kafkaSecuritySettings = {
  kafkaTls: setting(
    'PGQUORUM_KAFKA_TLS',
    z.enum(['off', 'on']),
    'off',
    "TLS to the brokers, whose certificates have to be valid for the names in PGQUORUM_KAFKA_BROKERS and in the brokers' `advertised.listeners`.",
  ),
  kafkaTlsCaFile: setting(
    'PGQUORUM_KAFKA_TLS_CA_FILE',
    text(),
    undefined,
    'PEM file of the authorities that sign certificates of brokers; unset = those that Node.js knows.',
  ),
  kafkaTlsCertFile: setting(
    'PGQUORUM_KAFKA_TLS_CERT_FILE',
    text(),
    undefined,
    'PEM file of the certificate that is shown to brokers that ask for one.',
  ),
  kafkaTlsKeyFile: setting(
    'PGQUORUM_KAFKA_TLS_KEY_FILE',
    text(),
    undefined,
    'PEM file of the private key of that certificate.',
  ),
  kafkaSaslMechanism: setting(
    'PGQUORUM_KAFKA_SASL_MECHANISM',
    z.enum(['plain', 'scram-sha-256', 'scram-sha-512']),
    undefined,
    'How to log in at the brokers; unset = not at all. `plain` sends the password as it is: with PGQUORUM_KAFKA_TLS only.',
  ),
  kafkaSaslUsername: setting('PGQUORUM_KAFKA_SASL_USERNAME', text(), undefined, 'User of the brokers.'),
  kafkaSaslPassword: setting('PGQUORUM_KAFKA_SASL_PASSWORD', text(), undefined, 'Its password.', {
    secret: true,
  }),
} as const;
