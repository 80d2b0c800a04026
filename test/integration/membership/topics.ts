/** The topics of a cluster that a broker has. */
import { Kafka, logLevel } from 'kafkajs';

export async function topicsOf(brokers: readonly string[], cluster: string): Promise<string[]> {
  const admin = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    return (await admin.listTopics()).filter((topic) => topic.startsWith(`pgquorum.${cluster}.`)).sort();
  } finally {
    await admin.disconnect();
  }
}
