/** The registry of a process's metrics, with those of Node itself. One per process part that is scraped; tests make as many as they like. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

export { Counter, Gauge, Histogram, Registry };

/** Seconds, from a local read to a request that waited for a node to fail. */
export const latencyBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function createRegistry(options: { readonly app: string; readonly cluster: string }): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ app: options.app, cluster: options.cluster });
  collectDefaultMetrics({ register: registry });
  return registry;
}
