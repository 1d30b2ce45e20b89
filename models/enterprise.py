"""Services for enterprises: clients, packages, subscriptions, statistics of collection."""

from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Count, CreatedAt, JsonList, Key, No, UpdatedAt, Yes, one_of


class EnterpriseClient(Base):
    """A company that has its debts collected."""

    __tablename__ = "enterprise_clients"
    __table_args__ = (
        one_of("company_type", "bank", "lending_institution", "law_firm", "other"),
        one_of("service_type", "debt_collection", "legal_consulting", "compliance"),
        CheckConstraint("priority_level BETWEEN 1 AND 5", name="priority_level"),
        one_of("status", "active", "inactive", "suspended"),
        Index(None, "company_type"),
        Index(None, "assigned_account_manager"),
        Index(None, "status"),
        {"comment": "企业客户"},
    )

    id: Mapped[Key]
    company_name: Mapped[str] = mapped_column(String(255), comment="企业名称")
    company_type: Mapped[str] = mapped_column(
        String(50), comment="企业类型：bank银行/lending_institution贷款机构/law_firm律所/other其他"
    )
    contact_person: Mapped[str] = mapped_column(String(100), comment="联系人")
    contact_phone: Mapped[str] = mapped_column(String(20), comment="联系电话")
    contact_email: Mapped[str] = mapped_column(String(255), comment="联系邮箱")
    business_license: Mapped[str | None] = mapped_column(String(100), comment="营业执照号")
    service_type: Mapped[str] = mapped_column(
        String(50), comment="服务类型：debt_collection债务催收/legal_consulting法律咨询/compliance合规"
    )
    contract_start_date: Mapped[date | None] = mapped_column(comment="合同开始日期")
    contract_end_date: Mapped[date | None] = mapped_column(comment="合同结束日期")
    monthly_fee: Mapped[Decimal] = mapped_column(Numeric(15, 2), server_default=text("0"), comment="月费（元）")
    case_volume_limit: Mapped[int] = mapped_column(server_default=text("1000"), comment="案件数量上限")
    priority_level: Mapped[int] = mapped_column(server_default=text("1"), comment="优先级（1至5）")
    assigned_account_manager: Mapped[UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"), comment="客户经理"
    )
    status: Mapped[str] = mapped_column(
        String(20), server_default="active", comment="状态：active启用/inactive停用/suspended暂停"
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class EnterpriseServicePackage(Base):
    """A package of services, one of each type."""

    __tablename__ = "enterprise_service_packages"
    __table_args__ = (
        one_of("package_type", "basic", "professional", "enterprise", "custom"),
        {"comment": "企业服务套餐"},
    )

    id: Mapped[Key]
    package_name: Mapped[str] = mapped_column(String(100), comment="套餐名称")
    package_type: Mapped[str] = mapped_column(
        String(50), unique=True, comment="套餐类型：basic基础/professional专业/enterprise旗舰/custom定制"
    )
    monthly_fee: Mapped[Decimal] = mapped_column(Numeric(15, 2), comment="月费（元）")
    case_volume_limit: Mapped[int] = mapped_column(comment="案件数量上限")
    features: Mapped[JsonList] = mapped_column(comment="功能列表")
    ai_credits_included: Mapped[Count] = mapped_column(comment="包含AI额度")
    dedicated_support: Mapped[No] = mapped_column(comment="是否专属支持")
    sla_response_time: Mapped[int] = mapped_column(server_default=text("24"), comment="服务响应时限（小时）")
    is_active: Mapped[Yes] = mapped_column(comment="是否启用")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class EnterpriseSubscription(Base):
    """A client's subscription to a package over a period."""

    __tablename__ = "enterprise_subscriptions"
    __table_args__ = (
        CheckConstraint("end_date >= start_date", name="end_date"),
        one_of("status", "active", "expired", "cancelled"),
        Index(None, "client_id"),
        Index(None, "package_id"),
        Index(None, "status"),
        {"comment": "企业订阅"},
    )

    id: Mapped[Key]
    client_id: Mapped[UUID] = mapped_column(ForeignKey("enterprise_clients.id", ondelete="CASCADE"), comment="企业客户")
    # The conventional name is longer than 63 bytes.
    package_id: Mapped[UUID] = mapped_column(
        ForeignKey(
            "enterprise_service_packages.id", ondelete="RESTRICT", name="fk_enterprise_subscriptions_package_id"
        ),
        comment="服务套餐",
    )
    start_date: Mapped[date] = mapped_column(comment="开始日期")
    end_date: Mapped[date] = mapped_column(comment="结束日期")
    monthly_fee: Mapped[Decimal] = mapped_column(Numeric(15, 2), comment="月费（元）")
    cases_used: Mapped[Count] = mapped_column(comment="已用案件数")
    cases_limit: Mapped[int] = mapped_column(comment="案件数量上限")
    auto_renewal: Mapped[Yes] = mapped_column(comment="是否自动续费")
    status: Mapped[str] = mapped_column(
        String(20), server_default="active", comment="状态：active生效/expired已过期/cancelled已取消"
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class CollectionSuccessStat(Base):
    """What collection brought over a period."""

    __tablename__ = "collection_success_stats"
    __table_args__ = (
        CheckConstraint("period_end >= period_start", name="period_end"),
        Index(None, "client_id"),
        Index(None, "period_start", "period_end"),
        {"comment": "催收成功统计"},
    )

    id: Mapped[Key]
    client_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("enterprise_clients.id", ondelete="SET NULL"), comment="企业客户"
    )
    period_start: Mapped[date] = mapped_column(comment="统计开始日期")
    period_end: Mapped[date] = mapped_column(comment="统计结束日期")
    total_cases: Mapped[Count] = mapped_column(comment="案件总数")
    cases_with_response: Mapped[Count] = mapped_column(comment="有回应案件数")
    cases_with_payment: Mapped[Count] = mapped_column(comment="有还款案件数")
    total_debt_amount: Mapped[Decimal] = mapped_column(
        Numeric(18, 2), server_default=text("0"), comment="债务总额（元）"
    )
    recovered_amount: Mapped[Decimal] = mapped_column(
        Numeric(18, 2), server_default=text("0"), comment="回收金额（元）"
    )
    response_rate: Mapped[Decimal] = mapped_column(Numeric(5, 4), server_default=text("0"), comment="回应率")
    recovery_rate: Mapped[Decimal] = mapped_column(Numeric(5, 4), server_default=text("0"), comment="回收率")
    average_recovery_time: Mapped[int | None] = mapped_column(comment="平均回收时间（天）")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
