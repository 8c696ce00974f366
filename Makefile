# Perito's commands. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup build demo demo-down test test-million chaos fuzz lint sbom check-deploy rehearse-images fmt stack-up stack-down stack-status bench bench-training bench-resources bench-sql dictionary sqlx-prepare reference clean

help: ## Lists these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Installs what is missing: build tools, Postgres, RabbitMQ, libtorch
	@deploy/local/setup

build: setup ## Builds all programs
	cargo build --workspace --bins

demo: ## The main job: trains, promotes, scores and shows results (DATASET=/path for real photographs)
	@deploy/local/demo

demo-down: ## Stops the demo and its servers; their data stays
	@deploy/local/stack down

test: ## Passes every test, on servers of its own
	@deploy/local/test

chaos: ## Breaks everything while jobs are scored, by seeds (SEEDS=10 or MINUTES=60, from SEED=1 on); fails when anything is lost
	@SEED=$(SEED) SEEDS=$(SEEDS) MINUTES=$(MINUTES) deploy/local/test --test chaos -- --ignored --nocapture

test-million: ## Plans and dispatches a job of a million photographs; fails when that takes more memory than a small one
	@deploy/local/test --test overload -- --ignored --nocapture

fuzz: ## Lets libFuzzer look for bytes that break something (SECONDS=20 for each way in; NAMES="image weights")
	@SECONDS_EACH=$(SECONDS) deploy/local/fuzz $(NAMES)

lint: setup ## Formatting, clippy, documentation, licences and sources of dependencies, and who may link libtorch
	@deploy/local/lint

sbom: ## Lists the parts of each program (CycloneDX), in target/sbom
	@deploy/local/supply-chain sbom

check-deploy: ## Checks what is below deploy/: images, compose, manifests, alert rules (no cluster needed)
	@deploy/check

rehearse-images: ## Builds the container images without a registry, to see that each step works (root; IMAGES="control worker-cpu")
	@deploy/containers/rehearse

fmt: ## Formats the code
	cargo fmt --all

stack-up: setup ## Starts Postgres, RabbitMQ and the object store (PERITO_STACK names the instance: demo unless told)
	@deploy/local/stack up
	@deploy/local/stack status

stack-down: ## Stops them
	@deploy/local/stack down

stack-status: ## Says what runs where
	@deploy/local/stack status

bench: ## The speed of scoring, its parts and whole jobs, beside Pillow, ONNX Runtime and PyTorch (see deploy/bench/README.md)
	@deploy/bench/scoring

bench-training: ## Images/s in training beside a plain PyTorch script (PYTHON=python with torch; DATASET=folder)
	@deploy/bench/run

bench-resources: ## What a coordinator and a worker take of memory and cores (PHOTOGRAPHS=folder, EPOCHS=2)
	@deploy/bench/resources

bench-sql: ## Milliseconds of each gallery query and view on generated data (IMAGES=1000000 PREDICTIONS=10000000 NIGHTS=180)
	@deploy/bench/sql

dictionary: ## After a change in views or in the query gallery: writes the data dictionary and the gallery's page
	@deploy/local/dictionary

sqlx-prepare: ## After a change in SQL: renews .sqlx/, which lets the compiler check queries without a database
	@deploy/local/sqlx-prepare

reference: ## After a change of commands or options: renews their pages in docs/reference
	cargo build --workspace --bins
	PERITO_UPDATE_REFERENCE=1 cargo test -p perito-tests --test manual the_reference

clean: ## Stops every stack of this clone; removes their data and all build products (libtorch stays)
	@for stack in .local/stacks/*; do [ ! -e "$$stack" ] || PERITO_STACK=$${stack##*/} deploy/local/stack wipe; done
	cargo clean
