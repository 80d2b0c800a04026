/**
 * The order in which Jest starts test files: those that take longest first, so that no worker is left with a long one when the others have nothing more
 * to do. Jest would go by what files took the last time, which a fresh clone does not know, and then by their sizes. A file that is missing here, or is
 * in the wrong place, costs time and nothing else.
 */
const longest = [
  'convergence',
  'failpoints-replication',
  'network-faults',
  'network-faults-kafka',
  'failpoints-membership',
  'containers/cluster',
  'foreign-clients',
  'replicator-standby',
  'crdt',
  'vector-clock',
  'verify-continuous',
  'replica-remove',
  'joining',
  'replica-add',
  'custom-resolvers',
  'resync',
  'ddl',
  'simulation',
  'throttle',
  'verify-replicator',
  'kafka-broker',
  'apply-merge',
  'capture-stream',
  'attach-constraints',
  'change-formats',
  'verify',
  'schema-drift',
  'apply-trouble',
  'apply-crdt',
  'identity',
  'gateway-status',
  'gateway-failover',
];

const placeOf = (path) => {
  const place = longest.findIndex((name) => path.endsWith(`/${name}.test.ts`));
  return place < 0 ? longest.length : place;
};

export default class LongestFirst {
  sort(tests) {
    const known = [...tests].map((test) => ({
      test,
      place: placeOf(test.path),
      size: test.context.hasteFS.getSize(test.path) ?? 0,
    }));
    known.sort((a, b) => a.place - b.place || b.size - a.size || (a.test.path < b.test.path ? -1 : 1));
    return known.map(({ test }) => test);
  }

  /** Jest tells what files took; the order does not depend on it. */
  cacheResults() {}
}
