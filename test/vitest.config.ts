import { defineConfig } from 'vitest/config';

// One project per kind of test (test/README.md says which is which). The bench runs file after file: a
// timing means nothing under load.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'bench',
          include: ['test/bench/**/*.bench.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'soak',
          include: ['test/soak/**/*.soak.ts'],
          testTimeout: 0,
          hookTimeout: 600_000,
        },
      },
      {
        test: {
          name: 'cluster-faults',
          include: ['test/cluster-faults/**/*.test.ts'],
          testTimeout: 900_000,
          hookTimeout: 600_000,
          // Hosts that wait for each other: beside another file they would wait for that.
          fileParallelism: false,
          chaiConfig: { truncateThreshold: 1000 },
        },
      },
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000 } },
      { test: { name: 'contract', include: ['test/contract/**/*.test.ts'], testTimeout: 90_000 } },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 90_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          // Mostly they wait: for engines, drains, timeouts. Lab hosts do not see each other.
          maxWorkers: 2,
          // What a command said, whole.
          chaiConfig: { truncateThreshold: 1000 },
        },
      },
    ],
  },
});
