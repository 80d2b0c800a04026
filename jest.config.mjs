/** One configuration, four projects: each `test:*` script selects one by path. */
export default {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: {
          target: 'es2023',
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: false },
        },
        module: { type: 'es6' },
        sourceMaps: 'inline',
      },
    ],
  },
  moduleNameMapper: { '^#core/(.*)\\.ts$': '<rootDir>/libs/core/src/$1.ts' },
  setupFiles: ['<rootDir>/libs/core/src/testing/faults.process.ts'],
  // Most tests take milliseconds. What waits for servers does so for conditions, and on a busy machine that takes its time.
  testTimeout: 120_000,
  testPathIgnorePatterns: ['/node_modules/', '/dist/'],
  // A cluster's data folder is large, and has files that end in .snap.
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.pgquorum/', '<rootDir>/.cache/'],
};
