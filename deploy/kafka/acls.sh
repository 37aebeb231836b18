#!/usr/bin/env bash
# Allows each of Tidemark's services on a Kafka cluster what it needs, and
# nothing else. Run it as an administrator, with Kafka's own tool:
#
#   deploy/kafka/acls.sh --bootstrap-server broker-1:9093 --command-config admin.properties
#
# KAFKA_ACLS names the tool (kafka-acls.sh), TIDEMARK_TOPIC_PREFIX the prefix of
# topics and groups (tidemark.), and the principals are User:tidemark-SERVICE,
# or what TIDEMARK_PRINCIPAL says with %s in the place of the service.
#
# What follows from it: only the command line, with the credentials of control,
# configures deployments; the decider cannot write an actuation, so it cannot
# claim to have acted; and only the actuator can.
set -euo pipefail

prefix=${TIDEMARK_TOPIC_PREFIX:-tidemark.}
connection=("$@")

allow() { # SERVICE, then what the tool is told of it
  local principal
  # shellcheck disable=SC2059 # the pattern is the user's to give
  principal=$(printf "${TIDEMARK_PRINCIPAL:-User:tidemark-%s}" "$1")
  "${KAFKA_ACLS:-kafka-acls.sh}" "${connection[@]}" --add --allow-principal "$principal" "${@:2}"
}

topics() { for topic in "$@"; do printf -- '--topic %s%s ' "$prefix" "$topic"; done; }

reads() { # SERVICE TOPIC...
  # shellcheck disable=SC2046 # words on purpose: no name holds a blank
  allow "$1" --operation Read --operation Describe $(topics "${@:2}")
}

writes() { # SERVICE TOPIC...
  # shellcheck disable=SC2046
  allow "$1" --operation Write --operation Describe $(topics "${@:2}")
}

joins() { # SERVICE: its consumer group
  allow "$1" --operation Read --operation Describe --group "$prefix$1"
}

reads collector deployments actuations
writes collector observations
joins collector

reads decider deployments observations decisions checkpoints dead-letters
writes decider decisions checkpoints dead-letters
joins decider

reads actuator deployments observations decisions actuations approvals
writes actuator actuations dead-letters
joins actuator

reads reporter deployments observations decisions actuations dead-letters
writes reporter dead-letters
joins reporter

# People at the command line: apply, activate, advise, approve, get, tail, explain,
# replay. A program that approves decisions needs no more than to read decisions and
# actuations, and to write approvals.
reads control deployments observations decisions actuations approvals checkpoints dead-letters
writes control deployments approvals

# tidemark doctor --fix, which makes topics and changes none.
allow doctor --operation Create --operation Describe --operation DescribeConfigs --resource-pattern-type prefixed --topic "$prefix"
