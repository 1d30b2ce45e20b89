"""The legacy core: what every production database had before us. The columns that we add to ``users`` stand last.

Primary keys have no server default: the application supplies the uuid. But for those columns, nothing here is ours.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Enum, ForeignKey, Index, Numeric, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, LegacyTime, No, one_of

TENANT_MODE = Enum("SAAS", "ON_PREMISE", name="tenantmode")
TENANT_STATUS = Enum("TRIAL", "ACTIVE", "SUSPENDED", "EXPIRED", name="tenantstatus")
USER_STATUS = Enum("PENDING", "ACTIVE", "INACTIVE", "BANNED", name="userstatus")
VERIFICATION_STATUS = Enum("UNVERIFIED", "PENDING", "VERIFIED", "FAILED", name="verificationstatus")
CASE_STATUS = Enum("PENDING", "ASSIGNED", "IN_PROGRESS", "COMPLETED", "CLOSED", "EXPIRED", name="casestatus")
LEGAL_STATUS = Enum("VALID", "EXPIRING_SOON", "EXPIRED", name="legalstatus")
INSURANCE_STATUS = Enum("PENDING", "ACTIVE", "CLAIMED", "EXPIRED", name="insurancestatus")
TRANSACTION_TYPE = Enum("PAYMENT", "REFUND", "PAYOUT", name="transactiontype")
TRANSACTION_STATUS = Enum("PENDING", "COMPLETED", "FAILED", name="transactionstatus")
COMMISSION_STATUS = Enum("PENDING", "PAID", "FAILED", name="commissionstatus")

# As PostgreSQL writes it down: autogenerate compares the text first, and the values of a random default always differ.
NEW_WORKSPACE = text("('ws-'::text || replace((gen_random_uuid())::text, '-'::text, ''::text))")


class Tenant(Base):
    """A customer of the platform; the upper limits really are uuid columns in production."""

    __tablename__ = "tenants"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    tenant_code: Mapped[str] = mapped_column(String(50), unique=True, index=True)
    mode: Mapped[str] = mapped_column(TENANT_MODE)
    status: Mapped[str] = mapped_column(TENANT_STATUS)
    domain: Mapped[str | None] = mapped_column(String(255), unique=True)
    feature_flags: Mapped[dict[str, Any] | None]
    system_config: Mapped[dict[str, Any] | None]
    api_limits: Mapped[dict[str, Any] | None]
    billing_info: Mapped[dict[str, Any] | None]
    subscription_plan: Mapped[str | None] = mapped_column(String(50))
    max_users: Mapped[UUID | None]
    max_cases: Mapped[UUID | None]
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]
    trial_expires_at: Mapped[datetime | None]


class Role(Base):
    """A role of one tenant, or a global one; names in use: Admin, Lawyer, Sales, Institution, User."""

    __tablename__ = "roles"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str] = mapped_column(String(50))
    description: Mapped[str | None] = mapped_column(Text)
    permissions: Mapped[dict[str, Any] | None]
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]


class SystemConfig(Base):
    """A setting of one tenant, or of the platform."""

    __tablename__ = "system_configs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"))
    category: Mapped[str] = mapped_column(String(50))
    key: Mapped[str] = mapped_column(String(255))
    value: Mapped[dict[str, Any]]
    description: Mapped[str | None] = mapped_column(Text)
    is_active: Mapped[bool]
    is_editable: Mapped[bool]
    min_value: Mapped[str | None] = mapped_column(String(50))
    max_value: Mapped[str | None] = mapped_column(String(50))
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]


class User(Base):
    """A person who signs in. From ``workspace_id`` on, the columns are ours."""

    __tablename__ = "users"
    __table_args__ = (
        one_of("account_type", "pending", "user", "lawyer", "lawyer_pending", "admin"),
        one_of("role", "user", "admin", "super_admin"),
        Index(None, "account_type"),
        Index(None, "email_verified"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    username: Mapped[str] = mapped_column(String(255), unique=True, index=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    email: Mapped[str | None] = mapped_column(String(255), unique=True, index=True)
    phone_number: Mapped[str | None] = mapped_column(String(20), unique=True, index=True)
    status: Mapped[str] = mapped_column(USER_STATUS)
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]
    last_login: Mapped[datetime | None]
    workspace_id: Mapped[str] = mapped_column(
        String(50),
        unique=True,
        server_default=NEW_WORKSPACE,
        comment="工作台编号",
    )
    account_type: Mapped[str] = mapped_column(
        String(20),
        server_default="pending",
        comment="账户类型：pending待定/user用户/lawyer律师/lawyer_pending待认证律师/admin管理员",
    )
    email_verified: Mapped[No] = mapped_column(comment="邮箱是否已验证")
    registration_source: Mapped[str] = mapped_column(String(20), server_default="web", comment="注册来源")
    role: Mapped[str] = mapped_column(
        String(20), server_default="user", comment="平台角色：user用户/admin管理员/super_admin超级管理员"
    )
    agreed_agreement_version: Mapped[str | None] = mapped_column(String(20), comment="已同意的用户协议版本")
    avatar_url: Mapped[str | None] = mapped_column(String(500), comment="头像地址")
    twitter_url: Mapped[str | None] = mapped_column(String(500), comment="Twitter主页地址")


class Profile(Base):
    """What is known of a user beyond the account."""

    __tablename__ = "profiles"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    full_name: Mapped[str | None] = mapped_column(String(255))
    id_card_number: Mapped[str | None] = mapped_column(String(18), index=True)
    qualification_details: Mapped[dict[str, Any] | None]
    did: Mapped[str | None] = mapped_column(String(255), unique=True)
    verification_status: Mapped[str] = mapped_column(VERIFICATION_STATUS)
    avatar_url: Mapped[str | None] = mapped_column(String(500))
    bio: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]


class UserRole(Base):
    """A role that a user holds; several are possible."""

    __tablename__ = "user_roles"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role_id: Mapped[UUID] = mapped_column(ForeignKey("roles.id"), primary_key=True)
    assigned_at: Mapped[LegacyTime]


class Client(Base):
    """A company whose cases are worked on."""

    __tablename__ = "clients"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str] = mapped_column(String(255))
    client_type: Mapped[str | None] = mapped_column(String(50))
    business_license: Mapped[str | None] = mapped_column(String(100))
    contact_person: Mapped[str | None] = mapped_column(String(100))
    contact_phone: Mapped[str | None] = mapped_column(String(20))
    contact_email: Mapped[str | None] = mapped_column(String(255))
    address: Mapped[str | None] = mapped_column(Text)
    sales_owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    cooperation_level: Mapped[str | None] = mapped_column(String(20))
    credit_rating: Mapped[str | None] = mapped_column(String(10))
    total_cases: Mapped[int | None]
    total_amount: Mapped[Decimal | None] = mapped_column(Numeric(18, 2))
    success_rate: Mapped[Decimal | None] = mapped_column(Numeric(5, 4))
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]


class Case(Base):
    """A case of a client, assigned to a lawyer."""

    __tablename__ = "cases"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    case_number: Mapped[str] = mapped_column(String(100), unique=True, index=True)
    debtor_info: Mapped[dict[str, Any]]
    case_amount: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    status: Mapped[str] = mapped_column(CASE_STATUS)
    assigned_to_user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    sales_user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    ai_risk_score: Mapped[int | None]
    data_quality_score: Mapped[int | None]
    data_freshness_score: Mapped[int | None]
    debt_creation_date: Mapped[date]
    last_follow_up_date: Mapped[date | None]
    legal_status: Mapped[str] = mapped_column(LEGAL_STATUS)
    limitation_expires_at: Mapped[date | None]
    description: Mapped[str | None] = mapped_column(Text)
    notes: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[dict[str, Any] | None]
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]
    completed_at: Mapped[datetime | None]


class Wallet(Base):
    """A user's money on the platform, in CNY."""

    __tablename__ = "wallets"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    balance: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    withdrawable_balance: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    frozen_balance: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    total_earned: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    total_withdrawn: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    commission_count: Mapped[Decimal] = mapped_column(Numeric(10, 0))
    last_commission_at: Mapped[datetime | None]
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]


class CaseLog(Base):
    """What somebody did to a case."""

    __tablename__ = "case_logs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    action: Mapped[str] = mapped_column(String(255))
    details: Mapped[dict[str, Any] | None]
    old_values: Mapped[dict[str, Any] | None]
    new_values: Mapped[dict[str, Any] | None]
    ip_address: Mapped[str | None] = mapped_column(String(45))
    user_agent: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[LegacyTime]


class Insurance(Base):
    """The insurance of a case."""

    __tablename__ = "insurances"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id"), unique=True)
    policy_number: Mapped[str] = mapped_column(String(255))
    insurance_company: Mapped[str] = mapped_column(String(255))
    premium_amount: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    coverage_amount: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    status: Mapped[str] = mapped_column(INSURANCE_STATUS)
    effective_date: Mapped[date | None]
    expiry_date: Mapped[date | None]
    claim_amount: Mapped[Decimal | None] = mapped_column(Numeric(18, 2))
    claim_date: Mapped[date | None]
    claim_details: Mapped[dict[str, Any] | None]
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]


class Transaction(Base):
    """A payment for a case."""

    __tablename__ = "transactions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    case_id: Mapped[UUID] = mapped_column(ForeignKey("cases.id"))
    amount: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    transaction_type: Mapped[str] = mapped_column(TRANSACTION_TYPE)
    status: Mapped[str] = mapped_column(TRANSACTION_STATUS)
    payment_gateway: Mapped[str | None] = mapped_column(String(50))
    gateway_txn_id: Mapped[str | None] = mapped_column(String(255), unique=True)
    gateway_response: Mapped[dict[str, Any] | None]
    description: Mapped[str | None] = mapped_column(String(500))
    notes: Mapped[str | None] = mapped_column(String(1000))
    created_at: Mapped[LegacyTime]
    updated_at: Mapped[LegacyTime]
    completed_at: Mapped[datetime | None]


class CommissionSplit(Base):
    """One person's share of a payment."""

    __tablename__ = "commission_splits"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    transaction_id: Mapped[UUID] = mapped_column(ForeignKey("transactions.id"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    role_at_split: Mapped[str] = mapped_column(String(50))
    amount: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    percentage: Mapped[Decimal] = mapped_column(Numeric(5, 4))
    status: Mapped[str] = mapped_column(COMMISSION_STATUS)
    payout_method: Mapped[str | None] = mapped_column(String(50))
    payout_account: Mapped[str | None] = mapped_column(String(255))
    payout_txn_id: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[LegacyTime]
    paid_at: Mapped[datetime | None]
