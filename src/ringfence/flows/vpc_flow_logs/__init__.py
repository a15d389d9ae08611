"""AWS VPC flow logs: text in the default or any custom format (version 2 and later), plain or gzip, and Parquet.

Fields and their meaning: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
"""

from ringfence.flows.vpc_flow_logs.source import VpcFlowLogs

__all__ = ["VpcFlowLogs"]
